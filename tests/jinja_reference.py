"""Generates small random templates with their renderings by Python's Jinja2, as JSON lines.

Jinja2 is set up as Hugging Face's apply_chat_template does: an immutable sandbox, trim_blocks, lstrip_blocks, loop
controls, and `tojson` without HTML escapes. Arguments: the seed and the number of templates.
"""

import copy
import json
import random
import sys
import warnings

from jinja2.exceptions import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

VARIABLES = {
    "s": "Hello, wörld! <b>&amp;</b> it's",
    "w": "  two  words\there\n",
    "lines": "one\n  two\r\n\nthree\n",
    "up": "ABC",
    "empty": "",
    "n": 7,
    "z": 0,
    "neg": -3,
    "big": 9007199254740993,
    "f": 2.5,
    "g": 1e20,
    "yes": True,
    "no": False,
    "nil": None,
    "l": [3, 1, 2, 2],
    "words": ["pear", "Apple", "fig", "apple", ""],
    "mixed": [1, "a", None, 2.0, True],
    "nest": [[1, 2], [3], []],
    "d": {"b": 1, "a": [1.0, None], "é": "x", "items": 5},
    "e": [],
    "o": {},
    "users": [
        {"name": "Ann", "age": 31, "tags": ["x", "y"], "ok": True},
        {"name": "bob", "age": 4, "tags": [], "ok": False},
        {"name": "Cid", "age": 31, "extra": {"k": "v"}},
    ],
}
NAMES = list(VARIABLES) + ["missing"]
TEXTS = ["s", "w", "lines", "up", "empty", "'a-b-c'", "'x'", "'%s|%5d'", "\"it's\"", "'\\t\\n\\x41\\u00e9'", "'<&>'"]
LISTS = ["l", "words", "mixed", "nest", "e", "users", "[1, 'two', none]", "(1, 2)", "range(4)", "'abc'", "d", "missing"]
NUMBERS = ["n", "z", "neg", "f", "1", "2", "-1", "3.0", "0.1", "yes", "big", "g"]

PLAIN_FILTERS = [
    "abs", "capitalize", "count", "dictsort", "e", "escape", "first", "float", "forceescape", "int", "items|list",
    "join", "last", "length", "list", "lower", "max", "min", "reverse|list", "round", "safe", "sort", "string",
    "striptags", "sum", "title", "tojson", "trim", "unique|list", "upper", "urlencode", "wordcount", "center(9)",
    "default('D')", "default('D', true)", "d('x')", "indent", "indent(2, true)", "indent(width='> ', blank=true)",
    "join(', ')", "join('-', attribute='name')", "replace('a', 'bb')", "replace('l', '', 1)", "round(1)",
    "round(1, 'floor')", "round(method='ceil')", "tojson(indent=2)", "tojson(sort_keys=true)", "tojson(ensure_ascii=true)",
    "tojson(separators=(',', ':'))", "truncate(5)", "truncate(6, true, '..', 0)", "trim('a ')", "batch(2)|list",
    "batch(3, '-')|list", "slice(2)|list", "slice(3, 'f')|list", "map('upper')|list", "map(attribute='name')|list",
    "map(attribute='extra.k', default='?')|list", "select|list", "select('string')|list", "reject('none')|list",
    "selectattr('ok')|list", "selectattr('age', 'eq', 31)|map(attribute='name')|join(',')", "rejectattr('tags')|list|length",
    "sort(reverse=true)", "sort(attribute='age')|map(attribute='name')|join", "sort(case_sensitive=true)",
    "groupby('age')|list|length", "groupby('age')|map('first')|list", "sum(attribute='age')", "sum(start=10)",
    "min(attribute='age')", "unique(case_sensitive=true)|list", "dictsort(by='value')", "dictsort(reverse=true)",
    "attr('name')", "int(default=5)", "int(base=16)", "float(1.5)", "format(1, 2)", "format('a', n=2)", "map('int')|sum",
    "reverse|join", "list|last", "map('length')|list", "items|length", "max(case_sensitive=true)", "default",
]  # fmt: skip
TESTS = [
    "defined", "undefined", "none", "boolean", "true", "false", "integer", "float", "number", "string", "mapping",
    "iterable", "sequence", "callable", "odd", "even", "lower", "upper", "divisibleby(3)", "divisibleby 2", "eq(7)",
    "equalto 'x'", "ne(1)", "gt(1)", "ge 2", "lt(3)", "le(3)", "in([7, 'x'])", "in 'abc'", "sameas(none)", "escaped",
    "filter", "test", "greaterthan(2)", "lessthan 9",
]  # fmt: skip
METHODS = [
    "upper()", "lower()", "title()", "capitalize()", "swapcase()", "strip()", "strip('Ha ')", "lstrip()", "rstrip('\\n')",
    "split()", "split(',')", "split(sep='l')", "split('l', 1)", "split(maxsplit=1)", "rsplit(' ', 1)", "rsplit()",
    "rsplit(none, 1)", "splitlines()", "splitlines(true)", "partition('l')", "rpartition('l')", "startswith('H')",
    "startswith(('a', 'H'))", "endswith('s')", "startswith('l', 2)", "find('l')", "rfind('l')", "index('b')", "count('l')",
    "count('')", "replace('l', 'L')", "replace('', '.')", "replace('l', 'L', 1)", "removeprefix('He')", "removesuffix('s')",
    "join(['1', '2'])", "join('ab')", "join(words)", "join(l)", "center(7)", "center(8, '*')", "ljust(8)", "rjust(9, '.')",
    "zfill(6)", "expandtabs(4)", "isalpha()", "isdigit()", "isalnum()", "isspace()", "isupper()", "islower()", "istitle()",
    "isidentifier()", "isascii()", "casefold()", "format(1, 2)", "items()", "keys()", "values()", "get('b')",
    "get('zz', 5)", "copy()", "index(2)", "count(2)", "append(1)", "update({})", "nothing", "nothing()", "items", "name",
    "0", "1.0", "bit_length()", "is_integer()",
]  # fmt: skip
FORMATS = [
    "'%s' % s", "'%s and %s' % (n, f)", "'%5.2f|%-6d|%+d|%05d' % (f, n, n, n)", "'%(b)s' % d", "'%r' % s", "'%%' % ()",
    "'%x %X %o %#x' % (n, 255, 8, 255)", "'%e %g %G' % (f, g, 0.00001)", "'%c' % 'x'", "'%c' % 65", "'%s' % [1]",
    "'%s' % (1, 2)", "'%d' % 'x'", "'%*d' % (5, 3)", "'%.2s' % s", "'%i' % 2.9", "'%s' % {'a': 1}", "'%-8s|' % up",
    "'{}'.format(s)", "'{} {}'.format(1, 'a')", "'{1} {0}'.format(1, 'a')", "'{x}'.format(x=2)", "'{:>5}|{:<5}|{:^5}'.format(1, 2, 3)",
    "'{:*^9}'.format('ab')", "'{:05.1f}'.format(f)", "'{:,}'.format(1234567)", "'{:.3f}'.format(2)", "'{!r}'.format('a')",
    "'{0.name}'.format(1)", "'{0[b]}'.format(d)", "'{:x}'.format(255)", "'{:#x} {:b} {:o}'.format(255, 5, 8)", "'{:e}'.format(f)",
    "'{:%}'.format(0.25)", "'{:+d} {: d}'.format(5, 5)", "'{{}}'.format()", "'{:d}'.format('x')", "'{'.format(1)", "'{:s}'.format('q')",
    "'{:>{}}'.format('a', 4)", "'{:g} {:n}'.format(1e7, 5)", "'{:_}'.format(1234567)", "'{:08,}'.format(1234)", "'{:}'.format(none)",
]  # fmt: skip


class Maker:
    """Generates templates; the seed determines every choice."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def one(self, choices):
        return self.random.choice(choices)

    def atom(self):
        kind = self.random.random()
        if kind < 0.35:
            return self.one(NAMES)
        if kind < 0.55:
            return self.one(TEXTS)
        if kind < 0.75:
            return self.one(LISTS)
        return self.one(NUMBERS)

    def expression(self, depth=2):
        if depth == 0:
            return self.atom()
        inner = lambda: self.expression(depth - 1)
        kind = self.random.randrange(14)
        if kind <= 2:
            return f"{self.operand(depth)}|{self.one(PLAIN_FILTERS)}"
        if kind <= 4:
            return f"{self.operand(depth)}.{self.one(METHODS)}"
        if kind == 5:
            return f"{self.operand(depth)} is {self.one(['', 'not '])}{self.one(TESTS)}"
        if kind <= 7:
            operator = self.one(["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in"])
            right = self.one(["2", "-1", "3"]) if operator == "**" else inner()
            return f"({inner()}) {operator} ({right})"
        if kind == 8:
            return f"({inner()}) {self.one(['and', 'or'])} {self.one(['', 'not '])}({inner()})"
        if kind == 9:
            start, stop, step = (self.one(["", "0", "1", "-1", "2", "-2", "9"]) for _ in range(3))
            return f"{self.operand(depth)}[{start}:{stop}{self.one(['', ':' + (step or '1')])}]"
        if kind == 10:
            return f"{self.operand(depth)}[{self.one(['0', '-1', '5', chr(39) + 'b' + chr(39), chr(39) + 'items' + chr(39), 'n', 'none'])}]"
        if kind == 11:
            return f"{inner()} if {inner()}{self.one(['', ' else ' + inner()])}"
        if kind == 12:
            return self.one([f"[{inner()}, {inner()}]", f"({inner()},)", f"{{'k': {inner()}, 'k2': {inner()}}}"])
        return self.one(FORMATS)

    def operand(self, depth):
        expression = self.expression(depth - 1)
        return expression if expression.isidentifier() else f"({expression})"

    def blank(self):
        return self.one(["", "", " ", "\n", "  \n", "\n\n", "\t", "text", "text ", "\n  text\n", "\r\n", " \r"])

    def tag(self, inside):
        return f"{{%{self.one(['', '', '-', '+'])} {inside} {self.one(['', '', '-'])}%}}"

    def output(self, expression):
        return f"{{{{{self.one(['', '', '-'])} {expression} {self.one(['', '', '-'])}}}}}"

    def block(self, depth):
        parts = []
        for _ in range(self.random.randrange(1, 3)):
            parts.append(self.blank())
            parts.append(self.statement(depth))
        return "".join(parts) + self.blank()

    def statement(self, depth):
        small = lambda: self.expression(1)
        body = (lambda: self.block(depth - 1)) if depth > 0 else (lambda: self.output(self.atom()))
        kind = self.random.randrange(17)
        if kind <= 2:
            return self.output(self.expression(2))
        if kind == 3:
            other = self.one(["", self.tag("else") + body(), self.tag(f"elif {small()}") + body() + self.tag("else") + body()])
            return self.tag(f"if {small()}") + body() + other + self.tag("endif")
        if kind <= 5:
            loop = self.one(["index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "previtem", "nextitem",
                             "cycle('a', 'b')", "changed(x)"])  # fmt: skip
            head = self.one([f"for x in {self.one(LISTS)}", f"for x in {small()}", f"for x in {self.one(LISTS)} if x",
                             "for x, y in d.items()", "for x, y in d|dictsort", "for x, y in nest"])  # fmt: skip
            inner = self.output(f"loop.{loop}") + self.output("x") + self.one(["", self.tag("if loop.index > 2") + self.tag("break")
                    + self.tag("endif"), self.tag("if x is none") + self.tag("continue") + self.tag("endif")])  # fmt: skip
            return self.tag(head) + inner + body() + self.one(["", self.tag("else") + "none"]) + self.tag("endfor")
        if kind == 6:
            return self.tag(f"set v = {small()}") + self.output("v") + self.output("v is defined")
        if kind == 7:
            return self.tag("set v") + body() + self.tag("endset") + self.output("v|length") + self.output("v")
        if kind == 8:
            return (self.tag("set ns = namespace(a=1, b=[])") + self.tag(f"for x in {self.one(LISTS)}")
                    + self.tag("set ns.a = ns.a + 1") + self.tag("set ns.b = ns.b + [x]") + self.tag("endfor")
                    + self.output("ns.a") + self.output("ns.b") + self.output("ns.c"))  # fmt: skip
        if kind <= 10:
            head = self.one(["m(a, b=2)", "m(a, b=a)", "m(a='x', b=n)", "m()", "m(a)"])
            use = self.one(["m(1)", "m(1, 2)", "m(b=3, a=s)", "m()", "m(1, 2, 3)", "m(1, c=4)", "m(*l)", "m(**{'a': 1})"])
            inside = self.one(["{{ a }}{{ b }}", "{{ varargs }}", "{{ kwargs }}", "{{ varargs|length }}{{ a is defined }}", "{{ n }}"])
            return self.tag(f"macro {head}") + inside + body() + self.tag("endmacro") + self.output(use)
        if kind == 11:
            return (self.tag("macro c(x)") + "[{{ caller(x) }}]" + self.tag("endmacro") + self.tag("call(y) c(5)")
                    + "{{ y }}" + body() + self.tag("endcall"))  # fmt: skip
        if kind == 12:
            return self.tag(f"filter {self.one(['upper', 'trim', 'indent(2)', 'replace(chr, 1)', 'upper|trim'])}") + body() + self.tag("endfilter")
        if kind == 13:
            return self.tag(f"with a = {small()}, n = 3") + self.output("a") + self.output("n") + body() + self.tag("endwith")
        if kind == 14:
            return f"{self.tag('raw')}{self.one(['', chr(10), ' '])}{{{{ x }}}}{{% if %}}{self.one(['', chr(10), '  '])}{self.tag('endraw')}"
        if kind == 15:
            return self.one([
                "{% set j = joiner('; ') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}",
                "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.reset() }}{{ c.next() }}",
                "{% for x in nest recursive %}{{ x if x is number else loop(x) }}{{ loop.depth }}{% endfor %}",
                "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = (n, s) %}{{ b }}", "{{ dict(a=1, b=2) }}{{ dict([('x', 1)]) }}",
                "{# a comment #}x", "{#- a comment -#}\n x", "{{ range(2, 9, 3)|list }}{{ range(5)[1:3]|list }}{{ range(3) }}",
                "{% for k in d %}{{ k }}={{ d[k] }};{% endfor %}", "{{ loop is defined }}{{ caller is defined }}", "{{ 'a' 'b' }}",
                "{% block q %}{{ n }}{% endblock %}{{ self.q() }}", "{% autoescape true %}{{ s }}{% endautoescape %}",
                "{% if n %}{% set inside = 1 %}{% endif %}{{ inside }}{% for x in l %}{% set inside = x %}{% endfor %}{{ inside }}",
                "{{ ('<' | safe) + '>' }}{{ '<'|e + '<' }}{{ '<'|e|e }}{{ ('<'|safe)|upper }}{{ '%s' % ('<'|e) }}", "{{ raise_exception('no') }}",
                "{{ users|map(attribute='name')|list }}{{ users[0].name }}{{ users[0]['age'] }}{{ users[2].tags }}",
            ])  # fmt: skip
        return self.tag(f"set x{self.random.randrange(3)} = {small()}") + self.output("x0") + self.output("x1 is defined")


def environment():
    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise TemplateError(message)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def main():
    warnings.simplefilter("ignore")
    env = environment()
    maker = Maker(int(sys.argv[1]))
    print(json.dumps(VARIABLES))
    for _ in range(int(sys.argv[2])):
        source = maker.block(1)
        try:
            # A copy: `indent` on a list modifies the list before it fails.
            result = {"ok": env.from_string(source).render(**copy.deepcopy(VARIABLES))}
        except (RecursionError, MemoryError):
            continue
        except Exception as error:  # for any exception in Python, ours must fail, too
            result = {"error": f"{type(error).__name__}: {error}"}
        if " at 0x" not in result.get("ok", ""):  # memory addresses are not reproducible
            print(json.dumps({"source": source, **result}))


if __name__ == "__main__":
    main()
