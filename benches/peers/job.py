"""Writes the job that harness and lm-evaluation-harness are both given.

    python3 benches/peers/job.py FOLDER [--items N] [--rows N]

Short news items in four topics, put together from the phrases below by a fixed seed, so that the
texts are the same everywhere and belong to nobody. A job asks three prompts about each of 200
items and scores all four topics: 3 x 200 x 4 = 2,400 requests of about 160 tokens. There are two
jobs, in folders of their own, which differ in what the topics are called:

    several/    two to four tokens each, as most answers are: every request is another text
    one/        one token each: lm-evaluation-harness reads all four off one row then

Both have

    topics.toml, topics.jsonl, shots.jsonl    the job as an experiment of harness
    lm_eval/*.yaml, lm_eval/topics.jsonl      the same as three tasks of lm-evaluation-harness

and FOLDER has rows.toml and rows.jsonl, one prompt about 1,000 items, for `harness plan`.

Both get the same characters: shots and instructions are written out in each task's `doc_to_text`,
and both put one blank between prompt and answer.
"""

import argparse
import json
import random
from pathlib import Path

SEED = 20240726
TOPICS = ["World", "Sports", "Business", "Science"]
# By job, what the topics are called.
NAMES = {
    "several": {
        "World": "World affairs",
        "Sports": "Sports and games",
        "Business": "Business and markets",
        "Science": "Science and research",
    },
    "one": {topic: topic for topic in TOPICS},
}
N_SHOTS = 4  # One of each topic.

PLACES = [
    "Altmar", "Brenholm", "Cadoria", "Dunmere", "Eskaville", "Fjordane", "Galbrook", "Harrowgate",
    "Isenfeld", "Jorvale", "Kestrel Bay", "Lindmark", "Montelar", "Norhaven", "Ostrava Hills",
    "Port Selby", "Quillon", "Ravensworth", "Sandoval", "Tarnmouth", "Ulverton", "Westerlin",
]
PEOPLE = [
    "Anders Holt", "Bea Castellan", "Clara Winthrop", "Dmitri Vale", "Elena Marsh", "Farid Osman",
    "Greta Lindqvist", "Hugo Barrow", "Ines Calder", "Jonas Petrie", "Kemal Aydin", "Lucia Ferro",
    "Maya Thornton", "Nils Ekberg", "Olga Renner", "Pavel Dorn", "Rosa Iglesias", "Samuel Okoro",
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

# Three sentences an item: what happened, what it means, what comes next.
SENTENCES = {
    "World": (
        [
            "Envoys from {place} and {other} met on {day} to renew talks on the disputed border",
            "The government of {place} declared a state of emergency on {day} after heavy floods",
            "Voters in {place} went to the polls on {day} to choose a new parliament",
            "Peacekeepers began to leave the northern districts of {place} on {day}",
            "The foreign minister of {place} cancelled a visit to {other} on {day} without notice",
        ],
        [
            "as both sides accused each other of breaking the truce that was signed {n} months ago.",
            "while aid groups warned that {n} villages were still cut off from food and clean water.",
            "in a test for President {person}, whose coalition has lost {n} seats since the spring.",
            "under a treaty that the two neighbours had argued about for more than {n} years.",
        ],
        [
            "Observers expect a statement from the regional council before the end of the week.",
            "Diplomats said that a second round of talks could be held in {other} next month.",
            "The opposition called for calm and asked that prisoners be released at once.",
            "Refugees continued to cross the river into {other} despite the closed checkpoints.",
        ],
    ),
    "Sports": (
        [
            "{person} scored twice in the last ten minutes on {day} as {place} came from behind",
            "{place} reached the final of the league cup on {day} with a narrow victory over {other}",
            "{person} won the {n} kilometre race in {place} on {day} by less than a second",
            "The coach of {place} dropped captain {person} on {day} for the match against {other}",
            "{person} saved two match points on {day} before beating the top seed in {place}",
        ],
        [
            "to end a run of {n} defeats that had left the team at the bottom of the table.",
            "and set a season record in front of a sold-out stadium of {n} thousand supporters.",
            "after an injury to the knee that had kept several of the best players out for {n} weeks.",
            "in a game that was stopped twice by rain and finished {n} minutes before midnight.",
        ],
        [
            "The second leg will be played in {other} on {day}, with the title still open.",
            "The club said that a new contract for the goalkeeper would be signed within days.",
            "Fans sang long after the whistle, and the manager praised the young defenders.",
            "Officials will review the late penalty before the draw for the next round.",
        ],
    ),
    "Business": (
        [
            "Shares of {place} Motors fell {n} percent on {day} after a profit warning",
            "The retailer {place} & Sons said on {day} that it would buy its rival {other} Stores",
            "{person}, the chief executive of {place} Bank, resigned on {day}",
            "Oil prices rose for a third session on {day} as refiners in {place} cut output",
            "The airline {place} Air reported on {day} that quarterly revenue had grown by {n} percent",
        ],
        [
            "as investors feared that higher interest rates would slow demand for {n} more months.",
            "in a cash deal worth {n} billion that regulators are likely to examine closely.",
            "amid an inquiry into accounts that were revised {n} times in the past two years.",
            "beating the forecast of analysts, who had expected weaker orders from {other}.",
        ],
        [
            "The company plans to close {n} branches and to move its headquarters to {other}.",
            "Bond yields eased slightly, and the currency closed unchanged against the dollar.",
            "Trade unions asked for guarantees that no jobs would be lost before next year.",
            "The board will propose a smaller dividend when shareholders meet in the spring.",
        ],
    ),
    "Science": (
        [
            "Researchers at the University of {place} reported on {day} that a common soil microbe",
            "A telescope on the mountain above {place} recorded on {day} a faint star that",
            "Engineers in {place} launched a small satellite on {day} with an instrument that",
            "A team led by {person} in {place} described on {day} a new kind of battery that",
            "Biologists from {place} and {other} found on {day} a deep-sea fish whose enzyme",
        ],
        [
            "can break down plastic in {n} days at the temperature of an ordinary compost heap.",
            "changes its colour every {n} hours and does not fit the models in use today.",
            "keeps working after {n} thousand cycles of heat, cold and strong radiation.",
            "repairs damaged cells {n} times faster than anything known from the laboratory.",
        ],
        [
            "The findings will have to be repeated by another group before they are accepted.",
            "The software and the data were published with the paper and are free to use.",
            "Earlier experiments had failed because the samples were contaminated in storage.",
            "A larger study with instruments from {other} is planned for next winter.",
        ],
    ),
}

INSTRUCTION = (
    "You sort the news desk's items into sections. Read the item with care, think about who would "
    "want to read it, and answer with the name of exactly one of the four sections: WORLD for "
    "politics, conflicts and disasters, SPORTS for matches and players, BUSINESS for companies and "
    "prices, SCIENCE for studies and technology.\n\n"
)
# Prompts by name, with `TEXT` for the item, `SHOTS` for the solved items and topics in capitals for
# what they are called.
PROMPTS = {
    "bare": "TEXT\nTopic:",
    "instruction": INSTRUCTION + "Item: TEXT\nSection:",
    "few": "SHOTSItem: TEXT\nSection:",
}
SHOT = "Item: TEXT\nSection: LABEL\n\n"


def item(draw: random.Random, topic: str) -> str:
    place, other = draw.sample(PLACES, 2)
    values = {"place": place, "other": other, "person": draw.choice(PEOPLE)}

    def fill(sentence: str) -> str:
        return sentence.format(**values, day=draw.choice(DAYS), n=draw.randint(2, 48))

    happened, means, follows = (fill(draw.choice(column)) for column in SENTENCES[topic])
    return f"{happened} {means} {follows}"


def items(n: int) -> list[dict]:
    """Different items, the topics in turn; a shorter list is the beginning of a longer one."""
    draw = random.Random(SEED)
    seen: set[str] = set()
    rows: list[dict] = []
    while len(rows) < n:
        topic = TOPICS[len(rows) % len(TOPICS)]
        text = item(draw, topic)
        if text not in seen:
            seen.add(text)
            rows.append({"id": f"n{len(rows):04}", "text": text, "label": topic})
    return rows


def write_rows(path: Path, rows: list[dict]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")


def renamed(rows: list[dict], names: dict[str, str]) -> list[dict]:
    return [row | {"label": names[row["label"]]} for row in rows]


def named(prompt: str, names: dict[str, str]) -> str:
    for topic, name in names.items():
        prompt = prompt.replace(topic.upper(), name)
    return prompt


def experiment(name: str, data: str, prompts: dict[str, str], choices: list[str]) -> str:
    """The experiment file; a JSON string is also a TOML string."""
    head = f"""[experiment]
name = "{name}"
primary = "acc"

[models.smol]
source = "builtin:smollm2-135m-instruct"

[dataset]
path = "{data}"
id = "id"
target = "{{{{ label }}}}"
choices = {json.dumps(choices)}
"""
    fewshot = '\n[fewshot]\npath = "shots.jsonl"\norder = "first"\n'
    parts = [head]
    if any("SHOTS" in prompt for prompt in prompts.values()):
        parts.append(fewshot)
    for variant, prompt in prompts.items():
        template = prompt.replace("SHOTS", "{{ examples }}").replace("TEXT", "{{ text }}")
        parts.append(f"\n[variants.{variant}]\n")
        if "SHOTS" in prompt:
            shot = SHOT.replace("TEXT", "{{ text }}").replace("LABEL", "{{ label }}")
            parts.append(f"shots = {N_SHOTS}\nexample = {json.dumps(shot)}\n")
        parts.append(f"template = {json.dumps(template)}\n")
    return "".join(parts)


def lm_eval_task(
    name: str, data: Path, prompt: str, shots: list[dict], choices: list[str]
) -> str:
    """The task as YAML, of which JSON is a part."""
    written = "".join(
        SHOT.replace("TEXT", shot["text"]).replace("LABEL", shot["label"]) for shot in shots
    )
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data.resolve())}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": prompt.replace("SHOTS", written).replace("TEXT", "{{text}}"),
        "doc_to_choice": choices,
        "doc_to_target": "label",
        "target_delimiter": " ",
        "num_fewshot": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    return json.dumps(task, indent=2) + "\n"


def write_job(folder: Path, rows: list[dict], shots: list[dict], names: dict[str, str]) -> None:
    tasks = folder / "lm_eval"
    tasks.mkdir(parents=True, exist_ok=True)
    rows, shots, choices = renamed(rows, names), renamed(shots, names), list(names.values())
    prompts = {variant: named(prompt, names) for variant, prompt in PROMPTS.items()}
    write_rows(folder / "shots.jsonl", shots)
    write_rows(folder / "topics.jsonl", rows)
    write_rows(tasks / "topics.jsonl", rows)
    job = experiment("topics", "topics.jsonl", prompts, choices)
    (folder / "topics.toml").write_text(job, encoding="utf-8")
    for variant, prompt in prompts.items():
        task = lm_eval_task(
            f"topics_{variant}", tasks / "topics.jsonl", prompt, shots, choices
        )
        (tasks / f"topics_{variant}.yaml").write_text(task, encoding="utf-8")


def write(folder: Path, n_items: int, n_rows: int) -> None:
    """Writes everything; the solved items come first and are in no dataset."""
    rows = items(N_SHOTS + max(n_items, n_rows))
    shots, rows = rows[:N_SHOTS], rows[N_SHOTS:]
    for job, names in NAMES.items():
        write_job(folder / job, rows[:n_items], shots, names)
    write_rows(folder / "rows.jsonl", rows[:n_rows])
    one = experiment("rows", "rows.jsonl", {"bare": PROMPTS["bare"]}, TOPICS)
    (folder / "rows.toml").write_text(one, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=200, help="items of a job [200]")
    parser.add_argument("--rows", type=int, default=1000, help="rows of the plan [1000]")
    args = parser.parse_args()
    write(args.folder, args.items, args.rows)


if __name__ == "__main__":
    main()
