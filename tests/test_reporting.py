"""lungct.reporting: the page has what it must have, is readable by everyone, and trusts none of its input."""

from __future__ import annotations

import doctest
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from support import ROOT
from support.runs import HOSTILE, made_up_run, write_run

from lungct import reporting
from lungct.errors import UsageError
from lungct.reporting import closing, learning, numbers, words, worries
from lungct.reporting.drawing import POINTS, thinned
from lungct.rundir import Run, read_run

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags in their nesting, attributes and text of a page; fails on a tag that is closed wrongly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.parts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.parts.append(data)

    def values(self, *names: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags for name in names if name in attrs]


def change(run: Path, name: str, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a JSON file of a run, and its checksum in metrics.json with it."""
    values = json.loads((run / name).read_text())
    edit(values)
    (run / name).write_text(json.dumps(values))
    if name != "metrics.json":
        checksum = hashlib.sha256((run / name).read_bytes()).hexdigest()
        change(run, "metrics.json", lambda m: m["sha256"].update({name: checksum}))


def page_of(run: Path) -> Page:
    path = reporting.report(run)
    assert path == run / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_has_what_every_report_must_have(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", weights="imagenet"))
    for sentence in (
        "This is not a medical device.",
        "What the intervals are for: a model that is trained in this way on a cohort of this size, and these boosters",
        "They say nothing about other hospitals or scanners",
        "AUC compares only patients of the same fold",
        "These numbers are optimistic because each fold's booster stops at the round that was best on that very fold",
        "60 patients",
        "None: every patient with features has a label",
    ):
        assert sentence in page.text
    assert "weights are random" not in page.text


def test_the_model_stands_beside_what_it_has_to_beat_each_with_its_interval(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    measured = json.loads((run / "metrics.json").read_text())
    text = page_of(run).text

    def shown(estimate: dict[str, float]) -> str:
        return " ".join((f"{estimate['value']:.3f} {estimate['low']:.3f} to {estimate['high']:.3f}").split())

    for key, name in (("auc", "AUC higher"), ("log_loss", "Log loss lower"), ("brier", "Brier score lower")):
        constant = "0.500 by definition" if key == "auc" else shown(measured["baseline"][key])
        models = [measured[key], *(measured[model][key] for model in ("averaged", "linear"))]
        row = f"{name} is better {' '.join(map(shown, models))} {constant}"
        assert row in text
        optimistic = measured["optimistic"][key]
        values = f"{optimistic['value']:.3f} {optimistic['low']:.3f} to {optimistic['high']:.3f}"
        assert text.index(row) < text.index(f"{name.rsplit(' ', 1)[0]} (optimistic) {values}")
    loss = {name: measured[name]["log_loss"] for name in ("linear_difference", "difference")}
    paired = " ".join(shown(loss[name]) for name in ("linear_difference", "difference"))
    assert f"Log loss below 0 is better – – {paired}".replace("-", "−") in text


def test_random_weights_are_pointed_out(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", weights="random:5"))
    assert "The network's weights are random (random:5)" in page.text
    assert "what should worry you: random network weights" in page.text


def test_inner_has_no_optimistic_scores(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", inner=True))
    assert "There are no optimistic scores" in page.text
    assert "(optimistic)" not in page.text


def test_folds_their_rounds_and_who_was_left_out_are_listed(tmp_path: Path) -> None:
    left_out = [("a1", "no CT image"), ("a2", "no CT image"), ("b", "features, but no label")]
    run = write_run(tmp_path / "run", left_out=left_out)
    page = page_of(run)
    for fold in json.loads((run / "metrics.json").read_text())["folds"]:
        assert f"{fold['rounds']} rounds used, best iteration {fold['best_iteration']}" in page.text
    assert "3 patients were left out; 60 were used" in page.text
    assert page.text.index("2 patients: no CT image a1 a2") < page.text.index("1 patient: features, but no label b")


def test_the_report_of_a_training_and_the_one_written_again_are_equal(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert reporting.report(run).read_text() == reporting.render(made_up_run(run))


def test_folds_of_one_class_have_no_curves_and_say_so(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", n=30, label_of=lambda i: int(i >= 20)))
    assert "there are no ROC and precision-recall curves" in page.text
    assert "AUC is undefined" in page.text


def test_nothing_comes_from_outside_and_no_id_is_twice(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run"))
    assert all(value.startswith("#") for value in page.values("src", "href", "xlink:href", "data", "action"))
    assert not {tag for tag, _ in page.tags} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "image",
    }
    text = (tmp_path / "run" / "report.html").read_text()
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    ids = page.values("id")
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    referred = set(re.findall(r"url\(#([^)]*)\)", text))
    referred |= {value[1:] for value in page.values("href", "xlink:href")} | set(page.values("aria-labelledby"))
    assert referred <= set(ids)


def test_pictures_have_words(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run"))
    pictures = [attrs for _, attrs in page.tags if attrs.get("role") == "img"]
    assert len(pictures) == 5 + 3
    assert all(attrs["aria-label"] for attrs in pictures)
    assert sum(tag == "svg" for tag, _ in page.tags) == len(pictures)
    assert all(attrs.get("scope") for tag, attrs in page.tags if tag == "th")


def test_ids_reasons_and_settings_are_text_whatever_they_hold(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", left_out=[(HOSTILE, HOSTILE), ("\ud800", "lone surrogate")])
    change(run, "settings.json", lambda s: s["params"].update({HOSTILE: [HOSTILE]}))
    change(run, "settings.json", lambda s: s["table"].update(path=HOSTILE))
    page = page_of(run)
    assert page.text.count("</script><img src=x onerror=alert(1)>&") >= 4
    assert not {tag for tag, _ in page.tags} & {"script", "img"}


@pytest.mark.slow
def test_the_page_is_the_same_each_time_and_under_a_megabyte_for_a_large_cohort(
    tmp_path: Path,
) -> None:
    left_out = [(f"patient-{i:06d}", f"reason {i % 7}") for i in range(20_000)]
    run = write_run(tmp_path / "run", n=5000, folds=24, left_out=left_out, curve_rounds=1000)
    first = reporting.report(run).read_bytes()
    assert reporting.report(run).read_bytes() == first
    assert len(first) < 1_000_000
    text = Page(first.decode()).text
    assert "2858 patients: reason 0" in text
    assert "Only the first 20 of 24 folds are drawn" in text


def random_run(tmp_path: Path) -> Run:
    return read_run(write_run(tmp_path / "run", n=200, folds=4))


def test_the_area_under_the_mean_roc_is_the_auc(tmp_path: Path) -> None:
    run = random_run(tmp_path)
    scores = run.scores
    curves = numbers.roc_curves(scores)
    assert curves is not None
    assert numbers.area(curves.mean) == pytest.approx(run.metrics["auc"]["value"], abs=1e-12)
    for k, curve in enumerate(curves.folds):
        mine = scores.fold == k
        assert numbers.area(curve) == pytest.approx(roc_auc_score(scores.label[mine], scores.score[mine]))


def test_the_area_under_the_mean_precision_recall_curve_is_average_precision(
    tmp_path: Path,
) -> None:
    scores = random_run(tmp_path).scores
    curves = numbers.pr_curves(scores)
    assert curves is not None
    folds = [scores.fold == k for k in range(4)]
    expected = [average_precision_score(scores.label[mine], scores.score[mine]) for mine in folds]
    assert [numbers.area(curve) for curve in curves.folds] == pytest.approx(expected)
    weights = [scores.label[mine].sum() for mine in folds]
    assert numbers.area(curves.mean) == pytest.approx(np.average(expected, weights=weights))


heights = st.floats(0, 1, allow_subnormal=False)
jumpy = st.lists(st.tuples(st.integers(1, 7), heights), max_size=8).map(
    lambda points: np.array([(0, 0.0), *((x / 8, y) for x, y in sorted(points, key=lambda p: p[0])), (1, 1.0)])
)


@given(st.lists(jumpy, min_size=1, max_size=4))
def test_a_mean_curves_area_is_the_mean_of_the_areas(curves: list[NDArray[np.float64]]) -> None:
    weights = list(range(1, len(curves) + 1))
    areas = [numbers.area(curve) for curve in curves]
    mean = numbers.mean_curve(curves, weights)
    assert numbers.area(mean) == pytest.approx(np.average(areas, weights=weights))
    assert (np.diff(mean[:, 0]) >= 0).all()


@given(
    st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=80),
    st.booleans(),
)
def test_bins_and_histogram_count_every_patient_once(pairs: list[tuple[int, float]], ties: bool) -> None:
    y = np.array([label for label, _ in pairs])
    score = np.array([round(value, 1) if ties else value for _, value in pairs])
    bins = numbers.reliability(y, score)
    assert sum(b.patients for b in bins) == len(y)
    assert sum(b.positives for b in bins) == y.sum()
    assert all(b.low - 1e-12 <= b.share <= b.high + 1e-12 for b in bins)
    assert [b.score for b in bins] == sorted(b.score for b in bins)
    (negatives, positives), _ = numbers.histogram(y, score)
    assert (negatives.sum(), positives.sum()) == ((y == 0).sum(), y.sum())


@pytest.mark.parametrize("module", [closing, learning, words, worries])
def test_examples_in_docstrings_are_true(module: ModuleType) -> None:
    result = doctest.testmod(module, extraglobs={"np": np})
    assert (result.failed, result.attempted > 0) == (0, True)


def test_a_patient_of_several_repeats_is_one_with_the_mean_score(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, n=30, repeats=3)
    once = numbers.patients_of(made_up_run(tmp_path, n=30).scores)
    fold = run.scores.fold.copy()
    fold[[0, 30, 60]] = -1  # held out of all repeats
    found = numbers.patients_of(replace(run.scores, fold=fold))
    assert found.ids == [name for name in once.ids if name != run.scores.patient_id[0]]
    for patient_id, label, score, folds in zip(found.ids, found.label, found.score, found.folds, strict=True):
        i = run.scores.patient_id.index(patient_id)
        assert label == run.scores.label[i]
        assert score == pytest.approx(run.scores.score[[i, i + 30, i + 60]].mean())
        assert folds == [run.scores.fold[i]] * 3


def test_the_reference_is_that_of_the_citation_file(tmp_path: Path) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    text = page_of(write_run(tmp_path / "run")).text
    authors = ", ".join(author["name"] for author in citation["authors"])
    assert f"Please cite: {authors}. {citation['title']}, version 0.1.0. Software, {citation['license']}." in text


def test_wilsons_interval_is_the_textbooks() -> None:
    assert numbers.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert numbers.wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_thinning_keeps_the_ends() -> None:
    curve = np.column_stack([np.arange(5000.0), np.arange(5000.0)])
    thin = thinned(curve)
    assert len(thin) == POINTS
    assert (thin[0] == curve[0]).all()
    assert (thin[-1] == curve[-1]).all()


def test_what_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        reporting.report(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"no metrics\.json"):
        reporting.report(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: (run / "settings.json").unlink(),
        lambda run: (run / "scores.csv").write_text("patient_id,label,fold,score,pixel_hash\na,1,0,0.5,\n"),
        lambda run: change(run, "metrics.json", lambda m: m.pop("auc")),
        lambda run: change(run, "metrics.json", lambda m: m["auc"].pop("low")),
        lambda run: change(run, "metrics.json", lambda m: m["folds"][0].pop("rounds")),
        lambda run: change(run, "settings.json", lambda s: s.pop("pooling")),
        lambda run: change(run, "settings.json", lambda s: s.update(table=None)),
        lambda run: change(run, "settings.json", lambda s: s["table"]["settings"].pop("preset")),
    ],
)
def test_a_damaged_run_is_refused_and_the_old_page_stays(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    run = write_run(tmp_path / "run")
    (run / "report.html").write_text("old")
    damage(run)
    with pytest.raises(UsageError, match="is damaged") as caught:
        reporting.report(run)
    assert caught.value.fix == "train again"
    assert "\n" not in str(caught.value)
    assert (run / "report.html").read_text() == "old"
