"""Writes tests/bad: small hostile files, each of which breaks one rule, named by the rule. tests/test_safetensors.c and
tests/test_json.c say with which words each is refused; scripts/fuzz.sh begins with them too.
    python3 scripts/oracles/make_bad_files.py
"""
import json
import pathlib
import shutil
import struct

BAD = pathlib.Path(__file__).resolve().parents[2] / "tests/bad"


def entry(dtype="U8", shape=(1,), offsets=(0, 1)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def tensors(data=1, **entries):
    return safetensors(json.dumps(entries, separators=(",", ":")), data)


def safetensors(header, data=1, length=None):
    header = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(header) if length is None else length) + header + bytes(data)


GOOD = '{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
BOTH = '{"a":{"dtype":"U8","shape":[2],"data_offsets":[%s]},"b":{"dtype":"U8","shape":[2],"data_offsets":[%s]}}'

SAFETENSORS = {
    "00_good": safetensors(GOOD),
    "01_seven_bytes": b"\x3c\0\0\0\0\0\0",
    "02_header_above_100_mb": safetensors(GOOD, length=100000001),
    "02_header_of_2_to_the_64": safetensors(GOOD, length=2**64 - 1),
    "03_header_beyond_the_file": safetensors(GOOD, 0, length=len(GOOD) + 1),
    "04_not_utf8": safetensors(GOOD.encode().replace(b'"t"', b'"\xff"')),
    "04_overlong_utf8": safetensors(GOOD.encode().replace(b'"t"', b'"\xc0\xaf"')),
    "05_begins_with_space": safetensors(" " + GOOD),
    "05_begins_with_bracket": safetensors("[" + GOOD + "]"),
    "05_empty_header": safetensors("", 0),
    "05_text_behind": safetensors(GOOD + " x"),
    "05_zero_behind": safetensors(GOOD + "\0"),
    "05_no_end": safetensors(GOOD[:-1]),
    "05_name_twice": safetensors(GOOD[:-1] + "," + GOOD[1:]),
    "05_key_twice": safetensors(GOOD.replace('"dtype"', '"shape":[1],"dtype"')),
    "05_metadata_key_twice": safetensors('{"__metadata__":{"a":"1","a":"2"}}', 0),
    "05_nested_65_deep": safetensors('{"t":' + "[" * 64 + "]" * 64 + "}"),
    "06_entry_is_a_number": tensors(t=1),
    "06_no_offsets": tensors(t={"dtype": "U8", "shape": [1]}),
    "06_one_member_more": tensors(t=dict(entry(), extra=1)),
    "06_another_member": tensors(t={"dtype": "U8", "shape": [1], "offsets": [0, 1]}),
    "06_unknown_dtype": tensors(t=entry("F33")),
    "06_dtype_is_a_number": tensors(t=entry(8)),
    "06_shape_is_a_number": tensors(t={"dtype": "U8", "shape": 1, "data_offsets": [0, 1]}),
    "06_size_is_a_string": tensors(t=entry(shape=["1"])),
    "06_three_offsets": tensors(t=entry(offsets=(0, 1, 1))),
    "06_metadata_is_a_list": tensors(0, __metadata__=["pt"]),
    "06_metadata_holds_a_number": tensors(0, __metadata__={"step": 1}),
    "06_metadata_holds_an_object": tensors(0, __metadata__={"a": {"b": "c"}}),
    "07_hole_first": tensors(2, t=entry(offsets=(1, 2))),
    "07_hole_between": safetensors(BOTH % ("0,2", "3,5"), 5),
    "07_overlap": safetensors(BOTH % ("0,2", "1,3"), 3),
    "07_same_bytes_twice": safetensors(BOTH % ("0,2", "0,2"), 2),
    "07_end_before_begin": tensors(t=entry(offsets=(1, 0))),
    "08_product_overflows": tensors(0, t=entry("F32", (4294967296, 4294967296), (0, 0))),
    "08_bits_overflow": tensors(0, t=entry("F64", (1 << 52, 1 << 6), (0, 0))),
    "08_size_disagrees": tensors(4, t=entry("F32", (2,), (0, 4))),
    "08_half_a_byte": tensors(2, t=entry("F4", (3,), (0, 2))),
    "08_six_bits": tensors(t=entry("F6_E2M3", (1,), (0, 1))),
    "09_cut_short": safetensors(GOOD, 0),
    "09_a_byte_more": safetensors(GOOD, 2),
    "09_no_tensors_but_data": safetensors("{}", 1),
    "10_name_with_zero": safetensors(GOOD.replace('"t"', '"t\\u0000"')),
    "10_name_with_escape": safetensors(GOOD.replace('"t"', '"\\u001b]0;gone\\u0007\\u001b[2Jt"')),
    "10_name_with_new_line": safetensors(GOOD.replace('"t"', '"t\\nall is well"')),
    "10_name_with_delete": safetensors(GOOD.replace('"t"', '"\x7ft"')),
    "10_name_with_c1": safetensors(GOOD.replace('"t"', '"\u009b2Jt"')),
    "10_name_turned_around": safetensors(GOOD.replace('"t"', '"\u202et"')),
    "10_name_empty": safetensors(GOOD.replace('"t"', '""')),
    "10_name_of_160": safetensors(GOOD.replace('"t"', '"%s"' % ("t" * 160))),
    "10_nine_dimensions": tensors(t=entry(shape=[1] * 9)),
    "11_above_2_to_the_53": tensors(0, t=entry(shape=(9007199254740993, 0), offsets=(0, 0))),
    "11_at_2_to_the_53": tensors(0, t=entry(shape=(9007199254740992, 0), offsets=(0, 0))),
    "11_negative_size": tensors(t=entry(shape=(-1,))),
    "11_negative_offset": tensors(t=entry(offsets=(-1, 0))),
    "11_fraction": safetensors(GOOD.replace("[1]", "[1.5]")),
    "11_offset_is_a_fraction": safetensors(GOOD.replace("[0,1]", "[0,0.5]")),
    "11_infinite": safetensors(GOOD.replace("[1]", "[1e400]")),
    "11_huge": safetensors(GOOD.replace("[1]", "[1e300]")),
}

JSON = {
    "duplicate_key": b'{"a": 1,\n "a": 2}',
    "duplicate_key_by_escape": b'{"a": 1, "\\u0061": 2}',
    "comment_line": b'{"a": 1} // why\n',
    "comment_block": b'{/* why */ "a": 1}',
    "comment_hash": b"# why\n{}",
    "trailing_comma": b'{"a": 1,}',
    "trailing_comma_in_list": b'{"a": [1,]}',
    "single_quotes": b"{'a': 1}",
    "bare_key": b"{a: 1}",
    "nan": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "hexadecimal": b'{"a": 0x10}',
    "plus": b'{"a": +1}',
    "no_leading_digit": b'{"a": .5}',
    "no_exponent": b'{"a": 1e}',
    "no_fraction": b'{"a": 5.}',
    "leading_zeros": b'{"a": 007}',
    "decimal_comma": b'{"a": 1,5}',
    "text_behind": b'{"a": 1} {"b": 2}',
    "zero_behind": b'{"a": 1}\0{"a": 2}',
    "too_large": b'{"a": 1e400}',
    "byte_order_mark": b'\xef\xbb\xbf{"a": 1}',
    "utf16": '{"a": 1}'.encode("utf-16"),
    "raw_control": b'{"a": "x\x1b[2Jy"}',
    "raw_new_line": b'{"a": "x\ny"}',
    "raw_tab": b'{"a": "x\ty"}',
    "not_utf8": b'{"a": "\xff"}',
    "overlong_utf8": b'{"a": "\xe0\x80\xaf"}',
    "surrogate_utf8": b'{"a": "\xed\xa0\x80"}',
    "half_a_pair": b'{"a": "\\ud800"}',
    "pair_turned": b'{"a": "\\udc00\\ud800"}',
    "zero_escape": b'{"a": "x\\u0000y"}',
    "zero_escape_in_key": b'{"a\\u0000": 1}',
    "unknown_escape": b'{"a": "\\x41"}',
    "short_escape": b'{"a": "\\u12"}',
    "nested_65_deep": b"[" * 65 + b"]" * 65,
    "not_closed": b'{"a": [1, 2',
    "string_not_closed": b'{"a": "x',
    "words_run_on": b'{"a": truely}',
    "capital_word": b'{"a": True}',
    "two_values": b'{"a": 1 2}',
    "long_number": b'{"a": 0.' + b"1" * 100 + b"}",
    "empty": b"",
    "spaces_only": b" \n\t ",
}


def write(folder, ending, files):
    shutil.rmtree(BAD / folder, ignore_errors=True)
    (BAD / folder).mkdir(parents=True)
    for name, data in files.items():
        (BAD / folder / (name + ending)).write_bytes(data)


write("safetensors", ".safetensors", SAFETENSORS)
write("json", ".json", JSON)
