#!/usr/bin/env python3
"""A small comparison of optimizers on one text: several learning rates per arm, then more seeds at the best one.

    python3 scripts/compare_optimizers.py TEXT... [--arms adamw,amuse] [--lrs 0.003,0.01,0.03] [--tokens 2M]
        [--seeds 3] [--jobs 2] [--threads 1] [--out runs/compare] [--report docs/measurements/optimizers_small.md]
        [key=value ...]

An arm is a configuration configs/small/ARM.json. TEXT is prepared as bytes into OUT/data. Runs that are there already
are kept (a stopped one is continued), so the script can be stopped and called again, with more arms or seeds. The
report holds the validation loss at 25, 50, 75 and 100 % of the tokens, as mean and spread over the seeds, and a figure.
Needs nothing beyond Python's own library and ./train_gpt.
"""

import argparse
import concurrent.futures
import json
import math
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.environ.get("TRAIN_GPT", os.path.join(ROOT, "train_gpt"))
RATES = {                                                   # learning rates that are tried for each arm
    "adamw": [0.001, 0.003, 0.01],
    "sf_adamw": [0.001, 0.003, 0.01],
    "muon": [0.001, 0.003, 0.01],
    "sf_muon": [0.003, 0.01, 0.03],
    "amuse": [0.003, 0.01, 0.03],
}
COLOURS = ["#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#777777"]
QUARTERS = [0.25, 0.5, 0.75, 1.0]
DIVERGED = 76


# ---- runs ----

def directory(args, arm, lr, seed):
    return os.path.join(args.out, f"{arm}-lr{lr:g}-seed{seed}")


def curve(path):
    """(step, validation loss) of a run, or nothing while it is not finished."""
    points = {}
    try:
        with open(os.path.join(path, "metrics.jsonl")) as lines:
            for line in map(json.loads, lines):
                if "val_loss" in line:
                    points[line["step"]] = line["val_loss"] if line["val_loss"] is not None else math.inf
    except FileNotFoundError:
        return []
    return sorted(points.items())


def finished(path):
    """What a run was made with, once it is through: its settings and its exit code."""
    try:
        with open(os.path.join(path, "done.json")) as mark:
            return json.load(mark)
    except FileNotFoundError:
        return None


def run(args, arm, lr, seed):
    path, log = directory(args, arm, lr, seed), directory(args, arm, lr, seed) + ".log"
    settings = [f"optim.lr={lr:g}", f"run.seed={seed}", f"train.tokens={args.tokens}", *args.overrides]
    done = finished(path)
    if done and done["settings"] != settings:
        sys.exit(f"{path} was made with {' '.join(done['settings'])}; choose another --out")
    if not done:
        command = [PROGRAM, "train", os.path.join(ROOT, "configs/small", arm + ".json"), f"run.dir={path}", "--resume",
                   f"threads={args.threads}", f"data.train={args.out}/data/train_*.bin",
                   f"data.val={args.out}/data/val_*.bin", *settings]
        with open(log, "a") as out:
            code = subprocess.run(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL).returncode
        if code not in (0, DIVERGED):
            sys.exit(f"{' '.join(command)}: exit {code}; see {log}")
        done = {"settings": settings, "exit": code}
        with open(os.path.join(path, "done.json"), "w") as mark:
            json.dump(done, mark)
    points = curve(path) if done["exit"] == 0 else []
    print(f"{arm:12s} lr {lr:<7g} seed {seed}  {last(points):.4f}", flush=True)
    return points


def last(points):
    """The loss at the end; infinite where a run diverged."""
    return points[-1][1] if points and math.isfinite(points[-1][1]) else math.inf


def run_all(args, jobs):
    """{(arm, lr, seed): points}, the given number at a time."""
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        futures = {job: pool.submit(run, args, *job) for job in jobs}
        return {job: future.result() for job, future in futures.items()}


# ---- report ----

def at(points, share):
    """The loss at a share of the run: that of the last evaluation up to there."""
    if last(points) == math.inf:
        return math.inf
    end = points[-1][0]
    return [loss for step, loss in points if step <= share * end + 0.5][-1]


def mean_and_spread(values):
    if not all(map(math.isfinite, values)):
        return math.inf, math.inf
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def figure(curves):
    """An SVG of mean validation loss against steps, with the range over the seeds that did not diverge."""
    curves = {arm: [run for run in seeds if last(run) < math.inf] for arm, seeds in curves.items()}
    curves = {arm: seeds for arm, seeds in curves.items() if seeds}
    if not curves:
        return ""
    width, height, left, bottom, top = 720, 420, 60, 50, 20
    points = [p for seeds in curves.values() for run in seeds for p in run if p[0] > 0]
    steps, low = max(p[0] for p in points), min(p[1] for p in points)
    first = min(p[0] for p in points)
    high = sorted(p[1] for p in points if p[0] == first)[-1]

    def x(step):
        return left + (width - left - 20) * step / steps

    def y(loss):
        return height - bottom - (height - bottom - top) * (loss - low) / (high - low)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
           'font-size="13">', f'<rect width="{width}" height="{height}" fill="white"/>']
    for i in range(6):
        loss = low + (high - low) * i / 5
        out.append(f'<line x1="{left}" x2="{width - 20}" y1="{y(loss):.1f}" y2="{y(loss):.1f}" stroke="#ddd"/>'
                   f'<text x="{left - 8}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss:.2f}</text>')
        out.append(f'<text x="{x(steps * i / 5):.1f}" y="{height - bottom + 20}" text-anchor="middle">'
                   f'{steps * i / 5:.0f}</text>')
    out.append(f'<text x="{width / 2}" y="{height - 10}" text-anchor="middle">step</text>')
    for (arm, seeds), colour in zip(curves.items(), COLOURS):
        rows = [[run[i] for run in seeds] for i in range(len(seeds[0])) if seeds[0][i][0] > 0]
        top_edge = [f"{x(row[0][0]):.1f},{y(max(p[1] for p in row)):.1f}" for row in rows]
        low_edge = [f"{x(row[0][0]):.1f},{y(min(p[1] for p in row)):.1f}" for row in reversed(rows)]
        middle = [f"{x(row[0][0]):.1f},{y(statistics.mean(p[1] for p in row)):.1f}" for row in rows]
        out.append(f'<polygon points="{" ".join(top_edge + low_edge)}" fill="{colour}" opacity="0.2"/>')
        out.append(f'<polyline points="{" ".join(middle)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        n = list(curves).index(arm)
        out.append(f'<text x="{width - 130}" y="{top + 20 + 18 * n}" fill="{colour}">{arm}</text>')
    return "\n".join(out + ["</svg>", ""])


def tables(args, rates, curves, best):
    lines = ["| arm | learning rate: validation loss at the end, seed 1 |", "|---|---|"]
    for arm in args.arms:
        cells = [f"{lr:g}: {last(rates[arm, lr, 1]):.4f}" + ("*" if lr == best[arm] else "") for lr in args.rates[arm]]
        lines.append(f"| {arm} | {', '.join(cells)} |")
    lines += ["", f"The best (*) with {args.seeds} seeds, mean and standard deviation at shares of the tokens:", "",
              "| arm | lr | " + " | ".join(f"{share:.0%}" for share in QUARTERS) + " |",
              "|---" * (len(QUARTERS) + 2) + "|"]
    for arm, seeds in curves.items():
        cells = ["{:.4f} ± {:.4f}".format(*mean_and_spread([at(run, share) for run in seeds])) for share in QUARTERS]
        lines.append(f"| {arm} | {best[arm]:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write(path, text):
    with open(path, "w") as out:
        out.write(text)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="+", metavar="TEXT|key=value")
    parser.add_argument("--arms", type=lambda s: s.split(","), default=list(RATES))
    parser.add_argument("--lrs", type=lambda s: [float(lr) for lr in s.split(",")], help="the same for every arm")
    parser.add_argument("--tokens", default="2M")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", default=os.path.join(ROOT, "runs/compare"))
    parser.add_argument("--report", help="writes tables to this file and the figure beside it, as .svg")
    args = parser.parse_intermixed_args()
    args.rates = {arm: args.lrs or RATES.get(arm, [0.003, 0.01, 0.03]) for arm in args.arms}
    args.texts = [word for word in args.words if os.path.exists(word)]
    args.overrides = [word for word in args.words if word not in args.texts]
    wrong = [word for word in args.overrides if "=" not in word]
    if wrong or not args.texts:
        parser.error(f"{wrong[0]}: no such file" if wrong else "name the text to train on")
    return args


def main():
    args = parse()
    os.makedirs(args.out, exist_ok=True)
    data = os.path.join(args.out, "data")
    if not os.path.exists(os.path.join(data, "dataset.json")):
        subprocess.run([PROGRAM, "prepare", *args.texts, "--tokenizer", "byte", "--out", data], check=True,
                       stdout=subprocess.DEVNULL)
    rates = run_all(args, [(arm, lr, 1) for arm in args.arms for lr in args.rates[arm]])
    best = {arm: min(args.rates[arm], key=lambda lr: last(rates[arm, lr, 1])) for arm in args.arms}
    more = run_all(args, [(arm, best[arm], seed) for arm in args.arms for seed in range(2, args.seeds + 1)])
    curves = {arm: [rates[arm, best[arm], 1]] + [more[arm, best[arm], seed] for seed in range(2, args.seeds + 1)]
              for arm in args.arms}
    text = tables(args, rates, curves, best)
    print("\n" + text)
    if args.report:
        svg = os.path.splitext(args.report)[0] + ".svg"
        write(svg, figure(curves))
        write(args.report, f"![validation loss]({os.path.basename(svg)})\n\n{text}")


if __name__ == "__main__":
    main()
