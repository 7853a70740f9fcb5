"""Labels and features joined: who is in, who is left out, who belongs together, and what is said about it."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold
from support.planted import cohort, patient, write_labels, write_table

from lungct.errors import UsageError
from lungct.features import Row
from lungct.ids import find_hints, nearest
from lungct.pseudonyms import Key
from lungct.training import Cohort, build_cohort, read_labels
from lungct.training.groups import find_groups

KEY = Key(b"a secret of enough bytes")
HASH = KEY.pseudonym("Roe")


def bad(patient_id: str, code: str = "no_ct") -> Row:
    return Row(patient_id, error=f"The files are {code}.", error_code=code)


def join(
    directory: Path,
    rows: Iterable[Row],
    labels: Mapping[str, object] | str,
    *,
    group_column: str | None = None,
    allow_unmatched: bool = False,
    quiet: bool = True,
    **settings: Any,
) -> Cohort:
    """Write a table and labels, and join them."""
    table = write_table(directory / "table", list(rows), **settings)
    path = directory / "labels.csv"
    if isinstance(labels, str):
        path.write_text(labels, encoding="utf-8")
    else:
        write_labels(path, labels.items())
    known = read_labels(path, group_column=group_column, hide_ids=bool(settings.get("pseudonym_key")))
    return build_cohort(table, known, pooling="mean", allow_unmatched=allow_unmatched, quiet=quiet)


def said(directory: Path, *arguments: Any, **options: Any) -> tuple[Cohort, list[str]]:
    """Join, and return the warnings too."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = join(directory, *arguments, **options)
    return found, [str(one.message) for one in caught]


def renamed(rows: Iterable[Row], names: Iterable[str]) -> list[Row]:
    return [dataclasses.replace(row, patient_id=name) for row, name in zip(rows, names, strict=True)]


def test_who_is_in_who_is_not_and_why(tmp_path: Path) -> None:
    rows, labels = cohort(12)
    rows += [bad("broken"), bad("broken2", "geometry"), bad("broken3"), patient("new", 1), patient("blank", 0)]
    found, (sentence,) = said(tmp_path, rows, {**labels, "gone": 1, "broken": 0, "blank": "", "blank2": ""})
    assert found.ids == sorted(labels)
    assert found.y.tolist() == [labels[name] for name in sorted(labels)]
    assert found.groups is None
    assert found.matched == {"labels": 14, "table": 14, "both": 12}
    assert found.flow == {
        "table": {"patients": 17, "errors": {"geometry": 1, "no_ct": 2}, "features": 14},
        "labels": {"rows": 16, "blank": 2, "labelled": 14},
        "labelled_not_in_table": 1,
        "labelled_without_features": 1,
        "unlabelled": 2,
        "used": 12,
    }
    assert found.left_out == [
        ("blank", "features, but no label"),
        ("broken", "The files are no_ct."),
        ("broken2", "The files are geometry."),
        ("broken3", "The files are no_ct."),
        ("gone", "labelled, but not in the feature table"),
        ("new", "features, but no label"),
    ]
    assert sentence == (
        "matched 12 of 14 labelled ids and of 14 patients with features; 1 labelled id is not in the table, first "
        "'gone'; 1 labelled id has an error row, first 'broken'; 1 patient with features has no label, first 'new'; "
        "2 labels are blank"
    )


def test_a_match_without_gaps_is_a_message_and_no_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, labels = cohort(6)
    found, warned = said(tmp_path, [*rows, patient("blank", 0)], {**labels, "blank": ""}, quiet=False)
    assert found.matched == {"labels": 6, "table": 7, "both": 6}
    assert not warned
    assert capsys.readouterr().err == (
        "lungct: matched 6 of 6 labelled ids and of 7 patients with features; 1 label is blank\n"
    )
    join(tmp_path / "again", rows, labels)
    assert capsys.readouterr().err == ""


def test_fewer_than_half_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    rows, labels = cohort(60)
    mistyped = {name if i < 29 else f"{name}x": label for i, (name, label) in enumerate(labels.items())}
    with pytest.raises(UsageError, match="fewer than half of the labelled ids in common") as caught:
        join(tmp_path / "a", rows, mistyped)
    for words in ("matched 29 of 60 labelled ids", "31 labelled ids are not in the table", "'p029x' (nearest: 'p029')"):
        assert words in str(caught.value)
    found, (sentence,) = said(tmp_path / "b", rows, mistyped, allow_unmatched=True)
    assert len(found.ids) == 29
    assert "matched 29 of 60" in sentence
    half = {name if i < 30 else f"{name}x": label for i, (name, label) in enumerate(labels.items())}
    assert len(said(tmp_path / "c", rows, half)[0].ids) == 30


def test_the_smaller_side_decides(tmp_path: Path) -> None:
    rows, labels = cohort(60)
    assert len(said(tmp_path / "a", rows[:12], labels)[0].ids) == 12
    assert len(said(tmp_path / "b", rows, dict(list(labels.items())[:12]))[0].ids) == 12
    elsewhere = {**dict(list(labels.items())[:5]), **{f"q{i}": 0 for i in range(100)}}
    with pytest.raises(UsageError, match="half of the patients with features"):
        join(tmp_path / "c", rows[:12], elsewhere)


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        (lambda name: str(int(name)), "would match but for leading zeros ('0', in the table '0000')"),
        (lambda name: f"{name}.0", "would match but for '.0' at the end ('0000.0', in the table '0000')"),
        (lambda name: f"{int(name)}.0", "would match but for leading zeros and '.0' at the end"),
        (lambda name: f"scans/{name}", "would match but for a path or a file's ending ('scans/0000'"),
        (lambda name: f"{name}.dcm", "would match but for a path or a file's ending"),
        (lambda name: f"{name[:2]}\u2013{name[2:]}", "would match but for blanks, dashes or invisible characters"),
        (lambda name: f"scans/{int(name)}.0", "would match but for several reasons at once"),
        (lambda name: name.replace("0", "O"), "would match but for letters for digits"),
        (lambda name: f"{name}\u200b", "would match but for blanks, dashes or invisible characters"),
    ],
)
def test_what_would_make_ids_match_is_said(tmp_path: Path, spoilt: Any, words: str) -> None:
    rows = renamed(cohort(40)[0], [f"{i:04d}" for i in range(40)])
    labels = {spoilt(row.patient_id): i % 2 for i, row in enumerate(rows)}
    with pytest.raises(UsageError, match="no labelled id of") as caught:
        join(tmp_path / "none", rows, labels)
    assert words in str(caught.value)
    most = {row.patient_id if 0 < i < 30 else spoilt(row.patient_id): i % 2 for i, row in enumerate(rows)}
    _, (sentence,) = said(tmp_path / "some", rows, most)
    assert "matched 29 of 40" in sentence
    assert words in sentence
    assert "11 would match" in sentence


def test_labels_of_persons_for_a_table_of_scans(tmp_path: Path) -> None:
    rows = [patient(f"p{i}/ct{j}", 0) for i in range(5) for j in range(2)]
    with pytest.raises(UsageError, match=r"5 would match but for the scan, .* \('p0', in the table 'p0/ct0'\)"):
        join(tmp_path, rows, {f"p{i}": 0 for i in range(5)}, depth=2)


def test_another_column_that_has_the_ids_is_named(tmp_path: Path) -> None:
    rows, labels = cohort(8)
    text = "id,accession,cancer\n" + "".join(f"{i},{name},{label}\n" for i, (name, label) in enumerate(labels.items()))
    with pytest.raises(UsageError, match=r"the column 'accession' has 8 of the table's ids \(id_column='accession'\)"):
        join(tmp_path, rows, text)


def test_ids_match_in_whatever_unicode_form_and_keep_the_tables(tmp_path: Path) -> None:
    names = [f"Rene\u0301e{i}" for i in range(10)]
    rows = renamed(cohort(10)[0], names)
    found, warned = said(tmp_path / "a", rows, {f"Ren\u00e9e{i}": i % 2 for i in range(10)})
    assert found.ids == names
    assert not warned
    with pytest.raises(UsageError, match=r"two patients called .* differ only in their Unicode form"):
        join(tmp_path / "b", [*rows, patient("Ren\u00e9e3", 0)], {f"Ren\u00e9e{i}": i % 2 for i in range(10)})


def test_no_label_behind_a_pseudonym_is_shown_or_written(tmp_path: Path) -> None:
    names = [f"Doe^Jane{i}" for i in range(12)]
    hidden = renamed(cohort(12)[0], sorted(map(KEY.pseudonym, names)))
    with pytest.raises(UsageError, match=r"ids are pseudonyms, and `lungct pseudonyms` writes") as caught:
        join(tmp_path / "none", hidden, dict.fromkeys(names, 1), pseudonym_key="abc")
    assert "Doe" not in str(caught.value)
    labels = {KEY.pseudonym(name) if i else name: i % 2 for i, name in enumerate(names)}
    found, (sentence,) = said(tmp_path / "some", hidden, labels, pseudonym_key="abc")
    assert "1 labelled id is not in the table, first line 2 of the labels" in sentence
    assert "Doe" not in sentence + str(found)
    assert ("line 2 of the labels", "labelled, but not in the feature table") in found.left_out
    other = {Key(b"another secret, long enough").pseudonym(name): 0 for name in names}
    with pytest.raises(UsageError, match="are of another key or of other ids"):
        join(tmp_path / "other", hidden, other, pseudonym_key="abc")
    with pytest.raises(UsageError, match="the labels' ids are pseudonyms, and the table's are not"):
        join(tmp_path / "plain", cohort(4)[0], other)


def test_error_rows_and_blank_labels_alone_are_nothing_to_train_on(tmp_path: Path) -> None:
    rows, _ = cohort(4)
    with pytest.raises(UsageError, match=r"no patient .* has features \(2 have error rows\)"):
        join(tmp_path / "a", [bad("a"), bad("b")], {"a": 1})
    with pytest.raises(UsageError, match=r"every labelled patient in .* has an error row"):
        join(tmp_path / "b", [*rows, bad("broken")], {"broken": 1})
    with pytest.raises(UsageError, match="every label is blank"):
        join(tmp_path / "c", rows, {"p000": ""})
    with pytest.raises(UsageError, match=r"every patient who is in .* has a blank label"):
        join(tmp_path / "d", rows, {"p000": "", "q": 1})


def groups(
    ids: list[str],
    persons: Mapping[str, str] | None = None,
    given: Mapping[str, str] | None = None,
    pixels: Mapping[str, str] | None = None,
    *,
    ids_are_paths: bool = True,
) -> list[str] | None:
    return find_groups(
        ids,
        [(persons or {}).get(name) for name in ids],
        None if given is None else [given.get(name, "") for name in ids],
        [(pixels or {}).get(name) for name in ids],
        ids_are_paths=ids_are_paths,
    )


def test_patients_belong_together_by_person_group_or_scan_and_through_others() -> None:
    assert groups(["a", "b", "c"]) is None
    assert groups(["a", "b", "c"], pixels={"a": "1", "b": "2", "c": "3"}) is None
    assert groups(["a", "b", "c/1", "d"], {"a": "one", "b": "one"}) == ["one", "one", "c", "d"]
    assert groups(["a", "b", "c"], pixels={"a": "1", "c": "1"}) == ["a", "b", "a"]
    assert groups(["a", "b", "c"], given={"a": "x", "c": "x"}) == ["x", "b", "x"]
    assert groups(["a", "b"], given={}) == ["a", "b"]
    through = groups(["a/1", "a/2", "b/1", "c/1", "d"], None, {"a/2": "f", "b/1": "f"}, {"b/1": "h", "c/1": "h"})
    assert through == ["f", "f", "f", "f", "d"]


def test_ids_of_patients_named_in_headers_are_no_paths() -> None:
    assert groups(["2020/1", "2020/2"], ids_are_paths=False) is None
    assert groups(["2020/1", "2020/2"]) == ["2020", "2020"]


def test_equal_texts_of_two_kinds_are_no_group() -> None:
    """A group 1 has nothing to do with a patient 1: labels number both."""
    found = groups(["1", "2", "3"], given={"2": "1", "3": "1"})
    assert found is not None
    assert found[1] == found[2] != found[0]


def test_persons_in_two_unicode_forms_are_one() -> None:
    found = groups(["a", "b"], {"a": "Ren\u00e9", "b": "Rene\u0301"})
    assert found is not None
    assert found[0] == found[1]


texts = st.sampled_from(["", "x", "y", "z"])


@given(patients=st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=12))
def test_two_are_in_one_group_exactly_if_a_chain_of_equal_keys_joins_them(patients: list[tuple[str, str, str]]) -> None:
    ids = [f"id{i}" for i in range(len(patients))]
    columns = [dict(zip(ids, column, strict=True)) for column in zip(*patients, strict=True)]
    found = groups(ids, columns[0], columns[1], columns[2])
    assert found is not None
    near = np.array([[any(a and a == b for a, b in zip(p, q, strict=True)) for q in patients] for p in patients])
    reach = np.eye(len(ids), dtype=bool) | near
    for _ in ids:
        reach = reach @ reach
    assert [[a == b for b in found] for a in found] == reach.tolist()


@pytest.mark.parametrize("by", ["path", "person", "column"])
def test_folds_are_scikit_learns_by_plain_persons(by: str) -> None:
    rng = np.random.default_rng(5)
    owners = [f"p{i}" for i in rng.permutation(40) for _ in range(rng.integers(1, 4))]
    ids = [f"{owner}/s{i:03d}" if by == "path" else f"s{i:03d}" for i, owner in enumerate(owners)]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    ids, owners = [ids[i] for i in order], [owners[i] for i in order]
    known = dict(zip(ids, owners, strict=True))
    found = groups(ids, known if by == "person" else None, known if by == "column" else None)
    y = rng.integers(0, 2, len(ids))
    mine, plain = (
        [valid.tolist() for _, valid in StratifiedGroupKFold(5, shuffle=True, random_state=3).split(y, y, names)]
        for names in (found, owners)
    )
    assert mine == plain


def test_a_scan_under_several_ids_is_one_group_and_named(tmp_path: Path) -> None:
    rows, labels = cohort(12)
    twins = [patient("p000", 1, pixel_hash="ab" * 32), patient("p003", 1, pixel_hash="ab" * 32)]
    twins += [patient("p001", 0, pixel_hash="cd" * 32), patient("p006", 1, pixel_hash="cd" * 32)]
    others = [row for row in rows if row.patient_id not in {twin.patient_id for twin in twins}]
    found, (sentence,) = said(tmp_path, [*others, *twins], labels)
    assert sentence == (
        "2 scans are in the table under several ids (4 in all), which are kept within one fold: 'p000' = 'p003', "
        "'p001' = 'p006'; under different labels, one of which must be wrong: 'p001' = 'p006'"
    )
    assert found.groups is not None
    named = dict(zip(found.ids, found.groups, strict=True))
    assert named["p000"] == named["p003"] == "p000"
    assert named["p001"] == named["p006"] == "p001"
    assert len(set(found.groups)) == 10


def test_the_person_is_the_tables_else_the_group(tmp_path: Path) -> None:
    rows = [dataclasses.replace(patient("a", 0), person="one"), patient("b", 1), patient("c", 0)]
    text = "id,cancer,who\na,0,x\nb,1,y\nc,0,\n"
    found = join(tmp_path / "a", rows, text, group_column="who")
    assert found.persons == ["one", "y", None]
    assert found.groups == ["x", "y", "c"]
    hidden = renamed(rows, [KEY.pseudonym(name) for name in "abc"])
    text = f"id,cancer,who\n{KEY.pseudonym('a')},0,Doe\n{KEY.pseudonym('b')},1,Doe\n{KEY.pseudonym('c')},0,{HASH}\n"
    found = join(tmp_path / "b", hidden, text, group_column="who", pseudonym_key="abc")
    by_id = dict(zip(found.ids, found.persons, strict=True))
    assert by_id[KEY.pseudonym("a")] == "one"
    assert by_id[KEY.pseudonym("b")] in ("group 1", "group 2")
    assert by_id[KEY.pseudonym("c")] == HASH


def test_the_nearest_id_is_found_among_many() -> None:
    others = [f"LUNG-{i:06d}" for i in range(100_000)]
    assert nearest("LUNG-O04217", others) == "LUNG-004217"
    assert nearest("LUNG-0042177", others) in {"LUNG-004217", "LUNG-042177", "LUNG-002177", "LUNG-004177"}
    assert nearest("Doe", others) is None
    assert nearest("x", []) is None


@given(first=st.text("ab0", max_size=5), second=st.text("ab0", max_size=5))
def test_the_nearest_of_one_is_that_one_or_far(first: str, second: str) -> None:
    if first != second and 3 <= len(first) == len(second):
        apart = sum(a != b for a, b in zip(first, second, strict=True))
        assert nearest(first, [second]) == second or apart > 1
    assert nearest(first, [second, first]) == first


def test_hints_count_only_what_is_unambiguous() -> None:
    (hint,) = find_hints(["7", "8", "P9"], ["07", "007", "08"])
    assert (hint.count, hint.example) == (1, ("8", "08"))
    assert find_hints([], ["a"]) == find_hints(["a"], []) == []
