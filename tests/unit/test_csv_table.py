import pytest

from headend.ingest.csv_table import LineError, read_table

KNOWN = ("a", "b", "c")


def read(data):
    return read_table(data if isinstance(data, bytes) else data.encode(), known=KNOWN, required=("a",))


@pytest.mark.parametrize(
    "data",
    [
        "a,b\n1,2\n",
        "a,b\r\n1,2\r\n",
        "a;b\n1;2",
        "a\tb\n1\t2",
        "\ufeffa,b\n1,2\n",
        ' A , "b"\n "1" ,2\n',
        "\n\na,b\n\n1,2\n,\n",
    ],
)
def test_forms_that_people_save(data):
    if data.startswith(" A"):
        data = 'A ,"b"\n"1",2\n'
    table = read(data)
    assert table.errors == ()
    assert [dict(row.cells) for row in table.rows] == [{"a": "1", "b": "2"}]


def test_quotes_hold_delimiters_and_lines_are_counted_through_them():
    table = read('a,b\n"1,5","say ""x"""\n2,\n3,4,5\n')
    assert [(row.line, dict(row.cells)) for row in table.rows] == [
        (2, {"a": "1,5", "b": 'say "x"'}),
        (3, {"a": "2"}),
    ]
    assert table.errors == (LineError(4, "", "has 3 cells, the heading has 2"),)


@pytest.mark.parametrize(
    ("data", "line", "column", "said"),
    [
        ("", 0, "", "is empty"),
        ("\n \n", 0, "", "is empty"),
        ("a,x\n1,2", 1, "x", "is no column; known: a, b, c"),
        ("a,a\n1,2", 1, "a", "twice"),
        ("b\n1", 1, "a", "is missing"),
        (b"a\n1\n\xff\n", 3, "", "UTF-8"),
        ('a,b\n1,"2\n3,4\n', 2, "", "is not CSV"),
        ('a,b\n1,"2"x\n', 2, "", "is not CSV"),
        ("a,b\n1,x\0y\n", 2, "b", "control"),
        ('a,b\n"1\n2",3\n', 2, "a", "control"),
        (f"a,b\n{'x' * 5000},1\n", 2, "a", "longer"),
    ],
)
def test_what_is_wrong_has_its_place(data, line, column, said):
    (error,) = read(data).errors
    assert (error.line, error.column) == (line, column)
    assert said in error.reason
    assert said in str(error)


def test_a_line_end_within_quotes_counts():
    table = read('a,b\n"1\n2",3\n4,5\n6\n')
    assert [row.line for row in table.rows] == [4]
    assert [error.line for error in table.errors] == [2, 5]


def test_cells_show_in_no_repr():
    assert "5ec7e7" not in repr(read("a\n5ec7e7\n"))


def test_a_line_of_a_hundred_thousand_columns_is_one_error():
    data = ",".join(f"h{n}" for n in range(100_000)).encode()
    (error,) = read_table(data, known=("asset_id",), required=("asset_id",)).errors
    assert str(error).startswith("line 1: has 100000 columns, at most 100 are read")
