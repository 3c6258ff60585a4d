"""names.yaml: what it means, and what is said when it cannot be understood."""

import pytest

from stages.plumbing.errors import UserError
from stages.scoring.names import Names, model_id, read_names


def names(tmp_path, text: str, clusters: int = 8) -> Names:
    (tmp_path / "names.yaml").write_text(text)
    return read_names(tmp_path / "names.yaml", clusters, "abc")


def test_names_junk_and_merges(tmp_path):
    found = names(tmp_path, "clusters: {0: sneaker, 3: [merge, 7], 5: junk, 7: coat, 6: sneaker, 1: [merge, 3]}")
    assert found.name == ["sneaker", "coat", "", "coat", "", "junk", "sneaker", "coat"]
    assert found.group == [0, 1, 2, 1, 4, 5, 0, 1]
    assert found.given
    assert not found.stale


def test_merged_without_a_name(tmp_path):
    found = names(tmp_path, "clusters: {2: [merge, 4]}")
    assert found.name == [""] * 8
    assert found.group == [0, 1, 2, 3, 2, 5, 6, 7]
    assert found.given


def test_blanks_and_line_ends_around_a_name_are_none_of_it(tmp_path):
    assert names(tmp_path, 'clusters: {0: " coat\\r\\n", 1: coat, 2: "=1"}').name[:3] == ["coat", "coat", "=1"]


@pytest.mark.parametrize("text", ["", "clusters:", "clusters: {}", "model: null\nclusters: {2: null}"])
def test_nothing_is_named(tmp_path, text):
    assert names(tmp_path, text) == ([""] * 8, list(range(8)), False)
    assert not names(tmp_path, text).given
    assert read_names(tmp_path / "nowhere.yaml", 8, "abc") == names(tmp_path, text)


def test_names_of_another_model_do_not_count(tmp_path):
    assert names(tmp_path, "model: abc\nclusters: {0: coat}").name[0] == "coat"
    assert names(tmp_path, "model: abd\nclusters: {0: coat, 99: shoe}") == ([""] * 8, list(range(8)), True)
    (tmp_path / "model.pt").write_bytes(b"weights")
    assert len(model_id(tmp_path / "model.pt")) == 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clusters: {8: coat}", "cluster 8 does not exist; there are 0 to 7"),
        ("clusters: {coat: 1}", "cluster 'coat' does not exist"),
        ("clusters: {1: 2}", "cluster 1 is 2; expected a name"),
        ("clusters: {1: [merg, 2]}", "merge is meant"),
        ("clusters: {1: [merge, 12]}", "cluster 1 merges with 12, which does not exist; there are 0 to 7"),
        ("clusters: {1: [merge, b]}", r"\[merge, <number of another cluster below 8>\]"),
        ("clusters: {1: [merge, 2], 2: [merge, 1]}", "clusters 1, 2 merge in a circle"),
        ("clusters: [1, 2]", "expected numbers and names"),
        ("cluster: {1: coat}", "unknown key cluster; expected model and clusters"),
        ("just text", "no mapping; expected model and clusters"),
        ("clusters: {1: [", "no YAML that can be read"),
        (r'clusters: {1: "a\rb"}', r"cluster 1 is 'a\\rb'; a name is one line"),
        (r'clusters: {1: "\e[31mred"}', "without characters that cannot be seen"),
        (r'clusters: {1: "\u202Etac"}', "without characters that cannot be seen"),
        (r'clusters: {1: "\uDCE9"}', "without characters that cannot be seen"),
    ],
)
def test_what_cannot_be_understood_is_named(tmp_path, text, message):
    with pytest.raises(UserError, match=f"names.yaml: .*{message}"):
        names(tmp_path, text)
