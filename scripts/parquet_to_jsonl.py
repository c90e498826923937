#!/usr/bin/env python3
"""Writes the documents of Parquet files to standard output as JSON lines {"text": ...}, one row group at a time:

    python3 scripts/parquet_to_jsonl.py FILE... [--column text] | ./train_gpt prepare - --tokenizer gpt2 --out DIR

Rows without text (null) are left out and counted on standard error. After a failure the last line is no JSON, so that
what reads them does not take a part for the whole. Needs pyarrow: pip install pyarrow
"""
import argparse
import json
import os
import sys


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--column", default="text", help="the column that holds the text (text)")
    return parser.parse_args()


def documents(path, column):
    """The values of one column, of strings, row group by row group."""
    file = parquet.ParquetFile(path)
    names = file.schema_arrow.names
    if column not in names:
        sys.exit(f"{path}: there is no column {column}, only {', '.join(names)}; name one with --column")
    kind = file.schema_arrow.field(column).type
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        sys.exit(f"{path}: column {column} holds {kind}, expected strings; name another with --column")
    for group in range(file.num_row_groups):
        for value in file.read_row_group(group, columns=[column]).column(0):
            yield value.as_py()


def write_all(options):
    empty = 0
    for path in options.files:
        try:
            for text in documents(path, options.column):
                if text is None:
                    empty += 1
                else:
                    print(json.dumps({"text": text}, ensure_ascii=False))
        except BrokenPipeError:
            raise
        except (OSError, UnicodeError, pyarrow.ArrowException) as error:
            sys.exit(f"{path}: {error}")
    if empty:
        print(f"{empty} rows without text were left out", file=sys.stderr)


def main():
    try:
        write_all(arguments())
    except SystemExit as end:
        if end.code not in (0, 2):
            print("parquet_to_jsonl.py failed here; see its message", flush=True)
        raise
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        sys.exit("pyarrow is missing; install it with: pip install pyarrow")
    sys.stdout.reconfigure(encoding="utf-8", errors="strict")
    try:
        main()
    except BrokenPipeError:  # the reader has stopped, and said why
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
