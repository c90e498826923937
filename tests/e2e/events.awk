# The records of one TensorBoard event file, from `od -An -v -w1 -tu1`: "start STEP", or "TAG STEP VALUE" for each
# scalar. A record that is not whole ends it; a byte that belongs to no event of ours ends it with status 1.
{ b[n++] = $1 }
function varint(    value, unit) {
    for (unit = 1; b[i] >= 128; unit *= 128) value += unit * (b[i++] - 128)
    return value + unit * b[i++]
}
function number(    exponent, mantissa, value) { # fp32
    exponent = b[i + 3] % 128 * 2 + int(b[i + 2] / 128)
    mantissa = b[i + 2] % 128 * 65536 + b[i + 1] * 256 + b[i]
    value = (exponent ? 1 + mantissa / 2 ^ 23 : mantissa / 2 ^ 22) * 2 ^ (exponent - 127)
    if (exponent == 255) value = "nan"
    else if (b[i + 3] >= 128) value = -value
    i += 4
    return value
}
function expect(byte) { if (b[i++] != byte) { print "byte " i - 1 " is " b[i - 1] ", not " byte; exit 1 } }
function scalars(end,    size, tag, value) {
    while (i < end) {
        expect(10); varint(); expect(10)
        tag = ""
        for (size = varint(); size > 0; size--) tag = tag sprintf("%c", b[i++])
        expect(21)
        value = number()
        printf "%s %d %s\n", tag, step, value == "nan" ? value : sprintf("%.9g", value)
    }
}
END {
    for (at = 0; at + 12 <= n && at + 16 + (size = b[at] + 256 * b[at + 1] + 65536 * b[at + 2]) <= n; at += 16 + size) {
        i = at + 12; step = 0
        expect(9); i += 8
        if (b[i] == 16) { i++; step = varint() }
        kind = b[i++]
        varint()
        if (kind == 58) print "start " step
        if (kind == 42) scalars(at + 12 + size)
        if (kind == 26 && at > 0) { print "a version in the middle"; exit 1 }
    }
}
