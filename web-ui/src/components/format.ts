// Numbers and times in readable form.

const whole = new Intl.NumberFormat("en");

export function count(value: number): string {
  return whole.format(Math.round(value));
}

/** 42.1, 8.25, 130: three digits are enough for a rate. */
export function rate(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function seconds(milliseconds: number): string {
  return milliseconds < 995 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(milliseconds < 9950 ? 2 : 1)} s`;
}

/** 135 M, 7.24 B. */
export function parameters(value: number): string {
  if (value >= 1e9) return `${trim((value / 1e9).toFixed(value >= 1e10 ? 1 : 2))} B`;
  if (value >= 1e6) return `${Math.round(value / 1e6)} M`;
  return value >= 1e3 ? `${Math.round(value / 1e3)} k` : String(value);
}

function trim(digits: string): string {
  return digits.replace(/\.?0+$/, "");
}

/** The heading in the list of conversations for a time. */
export function period(time: number, now: number): string {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  const day = 86_400_000;
  if (time >= midnight) return "Today";
  if (time >= midnight - day) return "Yesterday";
  if (time >= midnight - 7 * day) return "Last 7 days";
  if (time >= midnight - 30 * day) return "Last 30 days";
  return "Earlier";
}
