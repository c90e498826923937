#!/usr/bin/env python3
"""Rows of a Markdown table from what `train_gpt bench --json` printed.

    bench_row.py PRESET RECIPE FILE      one row of the table of steps
    bench_row.py --kernels PRESET FILE   the table of operations, with what share of its limit each reaches
    bench_row.py --generate PRESET FILE  of `bench --generate --json`: a row for each place in the context
"""
import json
import sys

STEP_TOKENS = 524288


def step_row(preset, recipe, b):
    optimizer = b["optimizers"][0]["seconds"]
    micro = b["micro_batch_seconds"]
    composed = STEP_TOKENS / (STEP_TOKENS / b["tokens_per_step"] * micro + optimizer)
    mfu = f"{100 * b['mfu']:.1f} %" if "mfu" in b else "peak not known"
    return (f"| {preset} | {recipe} | {b['tokens_per_step'] // 1024} x 1024 | {1e3 * b['step_seconds']:.2f} | "
            f"{1e3 * optimizer:.2f} | {b['tokens_per_second']:.0f} | {composed:.0f} | {mfu} | "
            f"{100 * b['share_of_large_product']:.1f} % | {b['peak_bytes'] / 2**30:.2f} GiB, "
            f"planned {b['planned_bytes'] / 2**30:.2f} |")


def kernel_table(preset, b):
    total = sum(o["seconds"] for o in b["operations"])
    lines = [f"{preset}, one step operation by operation, each alone; limits: "
             f"{b['copy_bytes_per_second'] * 1e-9:.0f} GB/s of a copy, "
             f"{b['product_flops_per_second'] * 1e-12:.0f} TFLOP/s of a large product.", "",
             "| operation | calls | ms | share | GB | GFLOP | of its limit |", "|---|--:|--:|--:|--:|--:|--:|"]
    for o in b["operations"]:
        lines.append(f"| {o['operation']} | {o['calls']} | {1e3 * o['seconds']:.3f} | "
                     f"{100 * o['seconds'] / total:.1f} % | {o['bytes'] * 1e-9:.3f} | {o['flops'] * 1e-9:.1f} | "
                     f"{100 * o['limit_seconds'] / o['seconds']:.0f} % |")
    return "\n".join(lines)


def generate_rows(preset, b):
    prompt = f"{b['prompt_tokens'] / b['prompt_seconds']:.0f}"
    return "\n".join(f"| {preset} | {b['dtype']} | {p['position']} | {1e3 * p['token_seconds']:.3f} | "
                     f"{p['tokens_per_second']:.0f} | {p['bytes'] * 1e-9:.3f} | {1e3 * p['read_seconds']:.3f} | "
                     f"{100 * p['read_over_token']:.0f} % | {1e3 * b['sampling_seconds']:.3f} | {prompt} |"
                     for p in b["places"])


def main():
    if sys.argv[1] == "--kernels":
        print(kernel_table(sys.argv[2], json.load(open(sys.argv[3]))))
    elif sys.argv[1] == "--generate":
        print(generate_rows(sys.argv[2], json.load(open(sys.argv[3]))))
    else:
        print(step_row(sys.argv[1], sys.argv[2], json.load(open(sys.argv[3]))))


main()
