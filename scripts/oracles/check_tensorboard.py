#!/usr/bin/env python3
"""Holds the event files of runs against TensorBoard's own readers: event_accumulator in Python, and the data server
that `tensorboard` starts where its package is there. Both show each step of each tag once, with the numbers of
metrics.jsonl, whatever became of the run on its way. Run where `tensorboard` is installed:

    python scripts/oracles/check_tensorboard.py RUN_DIR...

The data server knows no mark that a run begins again: it drops from a tag what is not before the number that comes. A
spike that was rolled back, or a number behind the newest step, stays in it until its tag comes again; such are counted.
"""
import argparse
import json
import math
import pathlib
import struct
import sys
import time

from tensorboard import context
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.data import provider, server_ingester
from tensorboard.util import grpc_util

TAGS = {"loss": "train/loss", "val_loss": "val/loss", "val_bits_per_byte": "val/bpb", "lr": "optim/lr",
        "grad_norm": "optim/grad_norm", "skipped": "stability/skipped_total", "tokens_per_second": "perf/tokens_per_s",
        "mfu": "perf/mfu", "gpu_power": "gpu/power_w", "gpu_temperature": "gpu/temp_c", "gpu_clock": "gpu/sm_mhz",
        "gpu_memory": "mem/gpu_bytes", "gpu_energy": "gpu/energy_j", "gpu_utilization": "gpu/utilization",
        "tokens": "progress/tokens", "seconds": "progress/seconds"}


def fp32(value):
    return math.nan if value is None else struct.unpack("f", struct.pack("f", value))[0]


def told(run):
    """{(tag, step): value} of metrics.jsonl."""
    points = {}
    for text in (run / "metrics.jsonl").read_text().splitlines():
        line = json.loads(text)
        if "event" in line:
            numbers = {"stability/" + line["event"]: 1}
        else:
            numbers = {TAGS.get(key, "eval/" + key if key.startswith("hellaswag_") else "train/" + key): value
                       for key, value in line.items()
                       if key != "step" and ("loss" in line or key not in ("tokens", "seconds"))
                       and (value is None or isinstance(value, (int, float)))}
        for tag, value in numbers.items():
            if (tag, line["step"]) in points:
                sys.exit(f"{run}/metrics.jsonl: step {line['step']} has two of {tag}")
            points[tag, line["step"]] = fp32(value)
    return points


def accumulated(run):
    reader = event_accumulator.EventAccumulator(str(run), size_guidance={event_accumulator.SCALARS: 0})
    reader.Reload()
    return [(tag, point.step, point.value) for tag in reader.Tags()["scalars"] for point in reader.Scalars(tag)]


def served(run):
    """By the server of tensorboard_data_server, which loads beside; None where there is none."""
    try:
        server = server_ingester.get_server_binary()
    except server_ingester.NoDataServerError:
        return None
    ingester = server_ingester.SubprocessServerDataIngester(
        server_binary=server, logdir=str(run), reload_interval=0, samples_per_plugin={"scalars": 0},
        channel_creds_type=grpc_util.ChannelCredsType.LOCAL)
    ingester.start()
    before, points = 0, []
    while not points or len(points) != before:
        before = len(points)
        time.sleep(0.3)
        scalars = ingester.data_provider.read_scalars(
            context.RequestContext(), experiment_id="", plugin_name="scalars", downsample=10**9,
            run_tag_filter=provider.RunTagFilter())
        points = [(tag, point.step, point.value) for tags in scalars.values() for tag, series in tags.items()
                  for point in series]
    return points


def same(a, b):
    return a == b or (math.isnan(a) and math.isnan(b))


def check(run, reader, points, expected, knows_marks):
    if len({point[:2] for point in points}) != len(points):
        sys.exit(f"{run}: {reader} shows a step twice")
    shown = {(tag, step): value for tag, step, value in points}
    last = max(step for _, step in expected)
    stale = {key for key in shown if key not in expected and not knows_marks and
             (key[0] == "stability/spike" or key[1] > last)}
    missing, more = expected.keys() - shown.keys(), shown.keys() - expected.keys() - stale
    wrong = [key for key in expected if key in shown and not same(shown[key], expected[key])]
    for what, keys in (("lacks", missing), ("shows besides", more), ("has other values for", wrong)):
        if keys:
            sys.exit(f"{run}: {reader} {what} {len(keys)} points, such as {min(keys)}")
    left = f", and {len(stale)} that were given up" if stale else ""
    print(f"{run}: {reader} shows the {len(shown) - len(stale)} numbers of metrics.jsonl, each step once{left}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path, metavar="RUN_DIR")
    for run in parser.parse_args().runs:
        expected = told(run)
        print(f"{run}: {len(list(run.glob('events.out.tfevents.*')))} event files")
        check(run, "event_accumulator", accumulated(run), expected, True)
        points = served(run)
        if points is None:
            print(f"{run}: no data server here")
        else:
            check(run, "the data server", points, expected, False)


main()
