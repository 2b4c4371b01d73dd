// Products of quantised weights with int8 activations, 64 rows and 64 tokens a workgroup. The columns are gone through chain by
// chain, in the order in which matmul.wgsl's lanes have them and add them up.

fn load_weights(own: u32, part: u32, group: u32, row: u32) {
    let read = read_group(row, group);
    let at = part * 128u + own / 4u;
    let place = own % 4u;
    //repeat $k FOUR
    weight_levels[at + $ku * 16u][place] = read.first[$k];
    weight_levels[at + ($ku + 4u) * 16u][place] = read.second[$k];
    //end
    weight_facts[part * SIDE + own] = vec4<f32>(read.scale, read.offset);
    weight_multipliers[part * SIDE + own] = read.multipliers;
}

fn load_tokens(own: u32, part: u32, start: u32) {
    let first = x[start];
    let second = x[start + 1u];
    let at = part * 128u + own / 4u;
    let place = own % 4u;
    //repeat $k FOUR
    token_levels[at + $ku * 16u][place] = first[$k];
    token_levels[at + ($ku + 4u) * 16u][place] = second[$k];
    //end
    token_facts[part * SIDE + own] = x[start + 2u];
}

fn work(index: u32, token0: u32, tokens: u32, thread: u32) {
    // What a thread loads: a group of one row or token.
    let own = thread % SIDE;
    let side = thread / SIDE;
    let row0 = index * SIDE;
    let groups = params.columns / 32u;
    // Beyond the last row and token, the last one is multiplied once more and not stored.
    let row = min(row0 + own, params.matrices[MATRIX].rows - 1u) * params.matrices[MATRIX].row_words;
    let token = min(token0 + own, tokens - 1u) * groups;
    // What it computes.
    let rows4 = thread % 16u;
    let tokens4 = thread / 16u;
    //repeat $t FOUR
    //repeat $r FOUR
    var sum$r_$t = 0.0;
    //end
    //end
    for (var lane = 0u; lane < LANES; lane++) {
        //repeat $t FOUR
        //repeat $r FOUR
        var chain$r_$t = 0.0;
        //end
        //end
        for (var unit = lane; unit * UNIT < groups; unit += LANES) {
            if (side < UNIT) {
                load_weights(own, side, group_of(unit, side), row);
            } else if (side < 2u * UNIT) {
                load_tokens(own, side - UNIT, 3u * (token + group_of(unit, side - UNIT)));
            }
            workgroupBarrier();
            //repeat $p UNIT
            {
                //repeat $t FOUR
                //repeat $r FOUR
                var first$r_$t = 0;
                var second$r_$t = 0;
                //end
                //end
                //repeat $k FOUR
                {
                    let weight = weight_levels[($pu * 8u + $ku) * 16u + rows4];
                    let level = token_levels[($pu * 8u + $ku) * 16u + tokens4];
                    //repeat $t FOUR
                    //repeat $r FOUR
                    first$r_$t += dot4I8Packed(weight[$r], level[$t]);
                    //end
                    //end
                }
                {
                    let weight = weight_levels[($pu * 8u + 4u + $ku) * 16u + rows4];
                    let level = token_levels[($pu * 8u + 4u + $ku) * 16u + tokens4];
                    //repeat $t FOUR
                    //repeat $r FOUR
                    second$r_$t += dot4I8Packed(weight[$r], level[$t]);
                    //end
                    //end
                }
                //end
                //repeat $r FOUR
                let facts$r = weight_facts[$pu * SIDE + 4u * rows4 + $ru];
                let multipliers$r = weight_multipliers[$pu * SIDE + 4u * rows4 + $ru];
                let group$r = Group(vec4<u32>(), vec4<u32>(), facts$r.xy, multipliers$r, facts$r.zw);
                //end
                //repeat $t FOUR
                {
                    let facts = token_facts[$pu * SIDE + 4u * tokens4 + $tu];
                    //repeat $r FOUR
                    chain$r_$t = add_group(chain$r_$t, group$r, vec2<i32>(first$r_$t, second$r_$t), facts);
                    //end
                }
                //end
            }
            //end
            workgroupBarrier();
        }
        //repeat $t FOUR
        //repeat $r FOUR
        sum$r_$t += chain$r_$t;
        //end
        //end
    }
    //repeat $t FOUR
    //repeat $r FOUR
    if (row0 + 4u * rows4 + $ru < params.matrices[MATRIX].rows && token0 + 4u * tokens4 + $tu < tokens) {
        store(row0 + 4u * rows4 + $ru, token0 + 4u * tokens4 + $tu, sum$r_$t);
    }
    //end
    //end
}
