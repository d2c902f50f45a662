"""What becomes of the source of one file."""

from __future__ import annotations

import ast
import io
import tokenize
from textwrap import dedent

import pytest
from airflow.sdk import DAG
from hypothesis import given
from hypothesis import strategies as st

from async_triggers.migrate.modules import may_name
from async_triggers.migrate.rewriting import CannotRewriteError, Rewritten, rewrite
from tests.examples import examples

AIRBYTE = "airflow.providers.airbyte"
DBT = "airflow.providers.dbt.cloud"


def rewritten(source: str) -> Rewritten:
    found = rewrite(dedent(source).encode())
    again = rewrite(found.source)

    assert again.source == found.source, "a second run changes something"
    assert again.left == () or len(again.left) <= len(found.left)
    ast.parse(found.source)
    return found


def moved(source: str) -> str:
    return rewritten(source).source.decode()


def left(source: str) -> str:
    return "\n".join(f"{each.line}: {each.text}" for each in rewritten(source).left)


def differs(source: str) -> str:
    return "\n".join(f"{each.line}: {each.text}" for each in rewritten(source).differs)


IMPORTS = [
    (
        f"from {AIRBYTE}.operators.airbyte import AirbyteTriggerSyncOperator",
        "from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator",
    ),
    (
        f"from {DBT}.triggers.dbt import DbtCloudRunJobTrigger as Trigger",
        "from async_triggers.dbt_cloud.triggers import DbtCloudRunJobTrigger as Trigger",
    ),
    (
        "from fivetran_provider.operators.fivetran import FivetranOperator",
        "from async_triggers.fivetran.operators import FivetranOperator",
    ),
    (
        "from fivetran_provider_async.sensors import (FivetranSensor,)",
        "from async_triggers.fivetran.sensors import (FivetranSensor,)",
    ),
    (
        f"import {AIRBYTE}.hooks.airbyte as ab; ab.AirbyteHook()",
        "import async_triggers.airbyte.hooks as ab; ab.AirbyteHook()",
    ),
    (
        "import fivetran_provider_async.hooks; fivetran_provider_async.hooks.FivetranHook",
        "import async_triggers.fivetran.hooks; async_triggers.fivetran.hooks.FivetranHook",
    ),
    (
        "from fivetran_provider_async import hooks; hooks.FivetranHook",
        "from async_triggers.fivetran import hooks; hooks.FivetranHook",
    ),
    (
        f"from {DBT}.sensors import dbt; dbt.DbtCloudJobRunSensor",
        "from async_triggers.dbt_cloud import sensors as dbt; dbt.DbtCloudJobRunSensor",
    ),
    (
        f"from {DBT}.sensors import dbt as d; d.DbtCloudJobRunSensor",
        "from async_triggers.dbt_cloud import sensors as d; d.DbtCloudJobRunSensor",
    ),
    (
        "import os; from fivetran_provider_async.hooks import FivetranHook; os.environ",
        "import os; from async_triggers.fivetran.hooks import FivetranHook; os.environ",
    ),
    (
        "from fivetran_provider_async.hooks import \\\n    FivetranHook",
        "from async_triggers.fivetran.hooks import \\\n    FivetranHook",
    ),
]


@pytest.mark.parametrize(("before", "after"), IMPORTS)
@pytest.mark.parametrize(
    "frame",
    [
        "{}\n",
        "try:\n    {}\nexcept ImportError:\n    raise\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {}  # types\n",
        "def task():\n    '''Task.'''\n    {}\n",
        "async def task():\n    with open('x'):\n        {}\n",
    ],
    ids=["module", "try", "types", "function", "nested"],
)
def test_an_import_moves_wherever_it_stands(
    before: str, after: str, frame: str
) -> None:
    assert moved(frame.format(before)) == frame.format(after)


UNTOUCHED = [
    "from .airflow.providers.airbyte.hooks.airbyte import AirbyteHook\n",
    "from . import fivetran_provider_async\n",
    "from airflow.providers.http.hooks.http import HttpHook\n",
    "from airflow.providers.airbyte_custom.hooks.airbyte import AirbyteHook\n",
    "from my.fivetran_provider_async.hooks import FivetranHook\n",
    "import fivetran_provider_async_own.hooks\n",
    "fivetran_provider_async = object()\nfivetran_provider_async.hooks.FivetranHook\n",
    "from async_triggers.fivetran.hooks import FivetranHook\n",
    '"""See airflow.providers.airbyte.hooks.airbyte for more."""\n',
    "# from fivetran_provider_async.hooks import FivetranHook\n",
    "",
]


@pytest.mark.parametrize("source", UNTOUCHED)
def test_what_is_no_import_of_another_provider_stays_without_a_word(
    source: str,
) -> None:
    assert rewritten(source) == Rewritten(source.encode())


def test_only_the_names_that_this_package_offers_move() -> None:
    source = "from fivetran_provider_async.hooks import FivetranHook, Absent as A\n"

    assert moved(source) == (
        "from async_triggers.fivetran.hooks import FivetranHook\n"
        "from fivetran_provider_async.hooks import Absent as A\n"
    )
    assert left(source) == (
        "1: Absent stays with fivetran_provider_async.hooks:"
        " async_triggers.fivetran.hooks does not offer it"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "from {old} import FivetranHook, Absent",
            ["from {new} import FivetranHook", "from {old} import Absent"],
        ),
        (
            "from {old} import Absent, FivetranHook",
            ["from {old} import Absent", "from {new} import FivetranHook"],
        ),
        (
            "from {old} import FivetranHook, Absent, FivetranHookAsync as H",
            [
                "from {new} import FivetranHook",
                "from {old} import Absent",
                "from {new} import FivetranHookAsync as H",
            ],
        ),
        (
            "from {old} import (A, FivetranHook, FivetranHookAsync, B)",
            [
                "from {old} import (A)",
                "from {new} import (FivetranHook, FivetranHookAsync)",
                "from {old} import (B)",
            ],
        ),
        (
            "import os, {old}, sys; {old}.FivetranHook, {old}.Absent",
            [
                "import os",
                "import {old}",
                "import {new}, sys; {new}.FivetranHook, {old}.Absent",
            ],
        ),
        (
            "import {old}, os; {old}.FivetranHook, {old}.Absent",
            ["import {old}", "import {new}, os; {new}.FivetranHook, {old}.Absent"],
        ),
    ],
)
@pytest.mark.parametrize("catches", ["ImportError", "(ImportError, OSError)"])
def test_what_is_imported_first_is_still_imported_first(
    before: str, after: list[str], catches: str
) -> None:
    paths = {
        "old": "fivetran_provider_async.hooks",
        "new": "async_triggers.fivetran.hooks",
    }
    frame = "try:\n    {}\nexcept {}:\n    FivetranHook = None\n"
    # Statements that share a line go on sharing it.
    joint = "; " if "; " in before else "\n    "
    expected = joint.join(each.format(**paths) for each in after)

    assert moved(frame.format(before.format(**paths), catches)) == (
        frame.format(expected, catches)
    )


def test_a_line_of_several_statements_stays_one_line() -> None:
    source = (
        "x = 1; from fivetran_provider_async.hooks import Absent, FivetranHook; y = 2\n"
    )

    assert moved(source) == (
        "x = 1; from fivetran_provider_async.hooks import Absent;"
        " from async_triggers.fivetran.hooks import FivetranHook; y = 2\n"
    )


def test_comments_go_with_the_names_they_are_about() -> None:
    assert moved(
        """\
        from airflow.providers.dbt.cloud.hooks.dbt import (  # the first
            # above the hook
            DbtCloudHook,  # the hook

            # above what is absent
            Absent,  # absent
            DbtCloudJobRunStatus as Status,  # the status
            # the end
        )  # behind
        """
    ) == dedent(
        """\
        from async_triggers.dbt_cloud.hooks import (  # the first
            # above the hook
            DbtCloudHook,  # the hook
        )  # behind
        from airflow.providers.dbt.cloud.hooks.dbt import (

            # above what is absent
            Absent,  # absent
        )
        from async_triggers.dbt_cloud.hooks import (
            DbtCloudJobRunStatus as Status,  # the status
            # the end
        )
        """
    )


OFFERED = ["DbtCloudHook", "DbtCloudJobRunStatus"]
ABSENT = ["AbsentOne", "AbsentTwo"]


@st.composite
def import_statements(draw: st.DrawFn) -> str:
    names = draw(
        st.lists(st.sampled_from(OFFERED + ABSENT), min_size=1, max_size=5, unique=True)
    )
    comments = iter(range(20))

    def gap(least: str) -> str:
        kind = draw(
            st.sampled_from(["same line", "break", "comment", "above", "blank"])
        )
        return {
            "same line": least,
            "break": "\n    ",
            "comment": f"  # {next(comments)}\n    ",
            "above": f"\n    # {next(comments)}\n  ",
            "blank": f"  # {next(comments)}\n\n    # {next(comments)}\n",
        }[kind]

    text = "(" + gap("")
    for each in names:
        alias = draw(st.sampled_from(["", f" as {each}_"]))
        is_last = each == names[-1]
        comma = draw(st.sampled_from([",", ""])) if is_last else ","
        text += f"{each}{alias}{comma}{gap('' if is_last else ' ')}"

    ending = draw(st.sampled_from(["\n", "\r\n"]))
    source = f"from {DBT}.hooks.dbt import {text})  # behind\nx = 1\n"
    return source.replace("\n", ending)


def bound_names(source: str) -> list[tuple[str, str | None]]:
    return sorted(
        (each.name, each.asname)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for each in node.names
    )


def comments_in(source: str) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return sorted(
        each.string.strip() for each in tokens if each.type == tokenize.COMMENT
    )


@given(source=import_statements())
@examples(40)
def test_names_and_comments_are_kept_however_they_are_laid_out(source: str) -> None:
    after = moved(source)

    assert bound_names(after) == bound_names(source)
    assert comments_in(after) == comments_in(source)
    for node in ast.walk(ast.parse(after)):
        if isinstance(node, ast.ImportFrom):
            is_moved = {each.name for each in node.names} <= set(OFFERED)
            assert str(node.module).startswith("async_triggers") == is_moved
    assert after.count("\r\n") == (after.count("\n") if "\r\n" in source else 0)


def test_comments_before_commas_leave_the_import_alone() -> None:
    source = """\
        from fivetran_provider_async.hooks import (
            FivetranHook  # the hook
            , Absent
        )
        """

    assert moved(source) == dedent(source)
    assert "put its comments behind the commas" in left(source)


STAYING = [
    (f"from {AIRBYTE}.hooks.airbyte import *", "import * stays"),
    (f"from {AIRBYTE} import hooks", f"{AIRBYTE}.hooks stays: there is no such module"),
    (f"import {DBT}.utils.openlineage", "there is no such module here"),
    (f"import {AIRBYTE}.hooks.airbyte as ab", "what others read of it is not known"),
    (f"import {AIRBYTE}.hooks.airbyte as ab\nuse(ab)", "2: "),
    (f"import {AIRBYTE}.hooks.airbyte as ab\nab.Absent, ab.AirbyteHook", "2: Absent"),
    (
        f"import {AIRBYTE}.hooks.airbyte as ab\ndef f(x: 'ab.AirbyteHook'): ...",
        "another use than ab.name",
    ),
    ("from fivetran_provider_async import hooks\ngetattr(hooks, name)", "2: "),
    (
        (
            f"import {AIRBYTE}.hooks.airbyte\n{AIRBYTE}.hooks.airbyte.AirbyteHook\n"
            "airflow.models.DAG"
        ),
        "3: this rests on import",
    ),
    *(
        (
            f"{statement}\n{root}airbyte.hooks.airbyte.AirbyteHook('x')",
            f"2: {AIRBYTE}.hooks.airbyte.AirbyteHook stays: import its module",
        )
        for statement, root in [
            ("import airflow", "airflow.providers."),
            ("import airflow as af", "af.providers."),
            ("import airflow.providers", "airflow.providers."),
            ("from airflow import providers", "providers."),
            ("from airflow import providers as p", "p."),
        ]
    ),
    (
        f"from airflow.providers import dbt\ndbt.{DBT[22:]}.hooks.dbt.DbtCloudHook",
        f"2: {DBT}.hooks.dbt.DbtCloudHook stays",
    ),
    *(
        (
            (
                f"import fivetran_provider_async.hooks\n{binding}"
                "    fivetran_provider_async.hooks.FivetranHook"
            ),
            "4: fivetran_provider_async.hooks stays: async_triggers is another name here",
        )
        for binding in (
            "from mine import async_triggers\nif 1:\n",
            "async_triggers = []\nif 1:\n",
            "\ndef f(async_triggers):\n",
        )
    ),
    ("importlib.import_module('fivetran_provider_async.hooks')", "change it by hand"),
    (
        "patch(f'fivetran_provider_async.hooks.{name}')",
        '"fivetran_provider_async.hooks."',
    ),
    (
        "x = f()  # type: fivetran_provider_async.hooks.FivetranHook",
        "fivetran_provider_async.hooks.FivetranHook stays in a type comment",
    ),
    (
        "trigger_cls = 'fivetran_provider_async.triggers' '.FivetranTrigger'",
        '"fivetran_provider_async.triggers.FivetranTrigger" stays',
    ),
    (
        "call(trigger_cls='fivetran_provider_async.triggers.Absent')",
        '"fivetran_provider_async.triggers.Absent" stays',
    ),
    (
        (
            "try:\n    from async_triggers.fivetran.hooks import FivetranHook\n"
            "except ImportError:\n"
            "    from fivetran_provider_async.hooks import FivetranHook"
        ),
        "4: fivetran_provider_async.hooks stays as the fallback",
    ),
]


@pytest.mark.parametrize(("source", "reason"), STAYING)
def test_what_cannot_move_stays_and_is_reported(source: str, reason: str) -> None:
    assert moved(source) == source
    assert reason in left(source)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            "from fivetran_provider_async.operators import X",
            ".operators.fivetran import X",
        ),
        (
            "from fivetran_provider_async import operators",
            ".operators.fivetran import X",
        ),
        ("import fivetran_provider_async.operators as o", " import operators as o"),
    ],
)
def test_a_fallback_of_an_import_that_moves_stays(first: str, second: str) -> None:
    """Both would import the same."""
    first = first.replace("X", "FivetranOperator")
    second = f"from fivetran_provider{second.replace('X', 'FivetranOperator')}"
    source = f"""\
try:
    {first}
except ImportError:
    {second}
operators = o = None
"""
    origin = second.split()[1]

    assert f"    {second}\n" in moved(source)
    assert f"{origin} stays as the fallback of async_triggers" in left(source)
    assert moved(moved(source)) == moved(source)


def test_both_branches_of_a_condition_move() -> None:
    source = """\
    if NEW:
        from fivetran_provider_async.operators import FivetranOperator
    else:
        from fivetran_provider.operators.fivetran import FivetranOperator
    """
    here = "from async_triggers.fivetran.operators import FivetranOperator"
    assert moved(source).count(here) == 2


@pytest.mark.parametrize(
    "statement",
    [
        "from airbyte_api.models import JobStatusEnum",
        "import airbyte_api",
        "import airbyte_api.models as m",
        "from airbyte_api import AirbyteAPI, models",
    ],
)
def test_the_client_that_comes_with_the_other_provider_is_reported(
    statement: str,
) -> None:
    assert moved(statement) == statement
    assert "async_triggers does not install it" in left(statement)
    assert may_name(statement.encode())


def test_uses_of_a_dotted_import_move_with_it() -> None:
    assert moved(
        f"""\
        import airflow
        import {AIRBYTE}.hooks.airbyte, os

        class Mine(({AIRBYTE}.hooks.airbyte.AirbyteHook)):
            hook = {AIRBYTE}.hooks.airbyte.AirbyteHook("x")

        airflow.models.DAG
        """
    ) == dedent(
        """\
        import airflow
        import async_triggers.airbyte.hooks, os

        class Mine((async_triggers.airbyte.hooks.AirbyteHook)):
            hook = async_triggers.airbyte.hooks.AirbyteHook("x")

        airflow.models.DAG
        """
    )


def test_a_dotted_import_stays_beside_for_what_is_not_offered() -> None:
    assert moved(
        """\
        import fivetran_provider_async.hooks  # both
        fivetran_provider_async.hooks.FivetranHook
        fivetran_provider_async.hooks.Absent
        """
    ) == dedent(
        """\
        import fivetran_provider_async.hooks  # both
        import async_triggers.fivetran.hooks
        async_triggers.fivetran.hooks.FivetranHook
        fivetran_provider_async.hooks.Absent
        """
    )


@pytest.mark.parametrize(
    "use",
    [
        "def f(fivetran_provider_async): return {}.FivetranHook\n",
        "f = lambda fivetran_provider_async: {}.FivetranHook\n",
        "class Mine:\n    fivetran_provider_async = x\n    y = {}.FivetranHook\n",
    ],
)
def test_a_name_that_means_something_else_within_does_not_move(use: str) -> None:
    path, target = "fivetran_provider_async.hooks", "async_triggers.fivetran.hooks"
    within = use.format(path)

    assert moved(f"import {path}\n{path}.FivetranHook\n{within}") == (
        f"import {target}\n{target}.FivetranHook\n{within}"
    )


def test_airflow_itself_is_still_imported_where_it_is_used() -> None:
    assert moved(
        f"""\
        def dag():
            import {AIRBYTE}.hooks.airbyte
            {AIRBYTE}.hooks.airbyte.AirbyteHook
            return airflow.DAG
        """
    ) == dedent(
        """\
        def dag():
            import airflow
            import async_triggers.airbyte.hooks
            async_triggers.airbyte.hooks.AirbyteHook
            return airflow.DAG
        """
    )


def test_a_name_that_is_imported_twice_moves_twice() -> None:
    source = "from fivetran_provider_async.hooks import FivetranHook\n"

    assert moved(source * 2 + f"def f():\n    {source}").count("async_triggers") == 3


def test_what_a_module_hands_on_keeps_its_name() -> None:
    after = moved(
        """\
        from fivetran_provider_async.hooks import FivetranHook
        __all__ = ["FivetranHook", 'Other']
        """
    )

    assert after.endswith("__all__ = [\"FivetranHook\", 'Other']\n")


@pytest.mark.parametrize(
    "frame",
    [
        "StartTriggerArgs(trigger_cls={}, next_method='x')",
        "base.StartTriggerArgs({}, {{}})",
        "replace(start, trigger_cls={})",
        "trigger_cls = {}",
        "class S:\n    trigger_cls: str = {}",
    ],
)
@pytest.mark.parametrize("quotes", ['"{}"', "'{}'", 'r"""{}"""'])
def test_the_path_of_a_trigger_moves(frame: str, quotes: str) -> None:
    before = quotes.format(
        "airflow.providers.dbt.cloud.triggers.dbt.DbtCloudRunJobTrigger"
    )
    after = quotes.format("async_triggers.dbt_cloud.triggers.DbtCloudRunJobTrigger")

    assert moved(frame.format(before)) == frame.format(after)
    assert left(frame.format(before)) == ""


ENCODINGS = [
    b"from fivetran_provider_async.hooks import FivetranHook\r\nx = 1\r\n",
    b"x = 1\r\nfrom fivetran_provider_async.hooks import FivetranHook\n",
    b"\xef\xbb\xbffrom fivetran_provider_async.hooks import FivetranHook\n# \xc3\xa9",
    (
        b"# coding: latin-1\nfrom fivetran_provider_async.hooks import FivetranHook\n"
        b'x = "\xe9"\n'
    ),
    b"if x:\n\tfrom fivetran_provider_async.hooks import FivetranHook\n\x0c\ny = 1",
    b"from fivetran_provider_async.hooks import FivetranHook # \xe2\x80\xa8 \xc3\xa9",
    (
        b"from fivetran_provider_async.hooks import FivetranHook\n"
        b'type A[T] = list[T]\nmatch A:\n    case _: print(f"{\'a\' if "b" else 1}")\n'
    ),
]


@pytest.mark.parametrize("source", ENCODINGS)
def test_every_other_byte_is_kept(source: bytes) -> None:
    after = source.replace(b"fivetran_provider_async", b"async_triggers.fivetran")

    assert rewrite(source).source == after


def test_lines_that_are_added_end_as_the_file_does() -> None:
    source = b"from fivetran_provider_async.hooks import FivetranHook, Absent\r\nx = 1"

    assert rewrite(source).source == (
        b"from async_triggers.fivetran.hooks import FivetranHook\r\n"
        b"from fivetran_provider_async.hooks import Absent\r\nx = 1"
    )


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"x = 1\nprint 'airbyte'\n", "line 2 does not parse"),
        (b"def airbyte(:\n", "line 1 does not parse"),
        (b"# coding: absent\nairbyte = 1\n", "encoding"),
        (b"airbyte = '\xff'\n", "encoding"),
        (b"airbyte = 1\rx = 2\r", "byte by byte"),
        (b"airbyte = " + b" + ".join([b"1"] * 2000), "nested too deeply"),
        (b"airbyte" + b".a()" * 1000, "nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_refused(source: bytes, reason: str) -> None:
    with pytest.raises(CannotRewriteError, match=reason):
        rewrite(source)


# What is different ----------------------------------------------------------------------


def test_a_class_that_moves_is_described() -> None:
    said = differs(
        f"from {AIRBYTE}.operators.airbyte import AirbyteTriggerSyncOperator"
    )

    assert "1: AirbyteTriggerSyncOperator: a task that is stopped" in said
    assert "wait_seconds" not in said


@pytest.mark.parametrize(
    "call",
    [
        "AirbyteTriggerSyncOperator(wait_seconds=5)",
        "AirbyteTriggerSyncOperator.partial(wait_seconds=5)",
        "AirbyteTriggerSyncOperator.partial(a=1).expand(wait_seconds=[5])",
        "AirbyteTriggerSyncOperator(**{}); default_args = {'wait_seconds': 5}",
        "AirbyteTriggerSyncOperator(); DAG('d', default_args=dict(wait_seconds=5))",
    ],
)
def test_an_argument_that_means_something_else_is_described(call: str) -> None:
    said = differs(
        f"from {AIRBYTE}.operators.airbyte import AirbyteTriggerSyncOperator\n{call}"
    )

    assert "2: AirbyteTriggerSyncOperator(wait_seconds=)" in said


SYNC = "AirbyteTriggerSyncOperator"


@pytest.mark.parametrize(
    "call",
    [
        f"{SYNC}(deferrable='False')",
        f"{SYNC}(deferrable='' 'True')",
        f"{SYNC}(deferrable=f'{{x}}')",
        f"{SYNC}(deferrable=os.environ['DEFER'])",
        f"{SYNC}(deferrable=os.environ.get('DEFER', 'False'))",
        f"{SYNC}(deferrable=getenv('DEFER'))",
        f"{SYNC}(deferrable=Variable.get('defer'))",
        f"{SYNC}(deferrable=str(x))",
        f"{SYNC}(deferrable=DEFER); DEFER = 'False'",
        f"{SYNC}(deferrable=DEFER); DEFER: str = 'False'",
        f"def f(): {SYNC}(deferrable=DEFER)\nDEFER = OTHER = 'False'",
        f"{SYNC}(**{{'deferrable': 'no'}})",
        f"{SYNC}(**COMMON); COMMON = dict(deferrable='no')",
        f"{SYNC}.partial(deferrable='False').expand(connection_id=['a'])",
        f"{SYNC}.partial(task_id='t').expand(deferrable=[True, 'False'])",
        f"{SYNC}.partial(a=1).expand_kwargs([{{'deferrable': 'False'}}])",
        f"{SYNC}(); DAG('d', default_args={{'deferrable': 'False'}})",
        f"{SYNC}(); default_args = dict(deferrable='False')",
        f"{SYNC}(); DAG('d', default_args=ARGS); ARGS = {{'deferrable': 'False'}}",
    ],
)
def test_a_switch_that_is_a_text_is_described(call: str) -> None:
    said = differs(
        f"import os; from os import getenv; from airflow.sdk import Variable; "
        f"from {AIRBYTE}.operators.airbyte import {SYNC}\n{call}"
    )

    assert f"{SYNC}(deferrable=)" in said
    assert 'a text is an error, "False" as well, which turned it on' in said


@pytest.mark.parametrize(
    "value",
    [
        "True",
        "False",
        "0",
        "x",
        "os.environ.get('D') == 'yes'",
        "Variable.get('d', deserialize_json=True)",
        "DEFER); DEFER = 'a'; DEFER = True; print(DEFER",
        "DEFER); DEFER = 'a'; DEFER += x; print(DEFER",
        "b'False'",
    ],
)
def test_a_switch_that_may_be_no_text_is_not_described(value: str) -> None:
    said = differs(
        "import os; from airflow.sdk import Variable; "
        f"from {AIRBYTE}.operators.airbyte import {SYNC}\n{SYNC}(deferrable={value})"
    )

    assert "a text is an error" not in said


def test_default_arguments_do_not_show_where_a_call_has_its_own() -> None:
    said = differs(
        f"from {AIRBYTE}.operators.airbyte import {SYNC}\n"
        f"{SYNC}(timeout=5); default_args = {{'timeout': 0}}"
    )

    assert "is cancelled when it has passed" in said
    assert "default_args" not in said


CALLS = {
    "airbyte": f"from {AIRBYTE}.operators.airbyte import {SYNC}\n{SYNC}(timeout={{}})",
    "dbt": (
        f"from {DBT}.operators.dbt import DbtCloudRunJobOperator\n"
        "DbtCloudRunJobOperator(timeout={})"
    ),
}
CANCELLED = {
    "airbyte": "(timeout=): the job is cancelled when it has passed",
    "dbt": "(timeout=): the run is cancelled when it has passed",
}
REFUSED = dict.fromkeys(CALLS, "a negative number is an error")
UNLIMITED = {
    "airbyte": "0 sets no limit for a deferred task either, which failed at once",
    "dbt": "0 sets no limit; the task failed unless its run had ended",
}


@pytest.mark.parametrize("vendor", CALLS)
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("60", CANCELLED),
        ("60 * 60", CANCELLED),
        ("limit()", CANCELLED),
        ("timedelta(hours=1)", CANCELLED),
        ("HOUR); HOUR = 3_600; print(HOUR", CANCELLED),
        ("0", UNLIMITED),
        ("0.0", UNLIMITED),
        ("timedelta()", UNLIMITED),
        ("timedelta(seconds=0)", UNLIMITED),
        ("NONE); NONE = 0; print(NONE", UNLIMITED),
        ("None", {}),
        ("-1", REFUSED),
        ("-timedelta(1)", REFUSED),
        ("timedelta(-1)", REFUSED),
    ],
)
def test_what_a_timeout_means_depends_on_its_value(
    vendor: str, value: str, said: dict[str, str]
) -> None:
    found = differs(f"from datetime import timedelta; {CALLS[vendor].format(value)}")

    about = [line for line in found.splitlines() if "(timeout=)" in line]
    assert len(about) == (1 if said else 0)
    assert said.get(vendor, "") in "".join(about)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0", "0 waits until the time"),
        ("None", ""),
        ("300", "it holds for a task on a worker too"),
        ("x", "0 waits until the time"),
    ],
)
def test_what_a_wait_for_a_sync_that_was_put_off_means(value: str, said: str) -> None:
    found = differs(
        "from fivetran_provider_async.operators import FivetranOperator\n"
        f"FivetranOperator(reschedule_wait_time={value})"
    )

    about = [line for line in found.splitlines() if "(reschedule_wait_time=)" in line]
    assert len(about) == (1 if said else 0)
    assert said in "".join(about)


@pytest.mark.parametrize(
    ("value", "shows"), [("True", True), ("x", True), ("False", False), ("None", False)]
)
@pytest.mark.parametrize(
    ("module", "name"),
    [
        (f"{AIRBYTE}.sensors.airbyte", "AirbyteJobSensor"),
        (f"{DBT}.sensors.dbt", "DbtCloudJobRunSensor"),
        ("fivetran_provider_async.sensors", "FivetranSensor"),
    ],
)
def test_a_soft_failure_of_a_sensor_is_described(
    module: str, name: str, value: str, *, shows: bool
) -> None:
    found = differs(f"from {module} import {name}\n{name}(soft_fail={value})")

    assert ("skips the sensor in every mode" in found) == shows


@pytest.mark.parametrize(
    ("value", "shows"), [("0", True), ("None", True), ("False", False), ("True", False)]
)
def test_a_dbt_cloud_task_was_deferred_unless_false(value: str, *, shows: bool) -> None:
    found = differs(
        f"from {DBT}.operators.dbt import DbtCloudRunJobOperator\n"
        f"DbtCloudRunJobOperator(deferrable={value})"
    )

    assert ("it waits on a worker" in found) == shows


@pytest.mark.parametrize(
    ("call", "shows"),
    [
        ("FivetranOperator()", True),
        ("FivetranOperator(fivetran_conn_id='x')", False),
        ("FivetranOperator(**more)", False),
        ("FivetranOperator.partial().expand()", False),
        ("FivetranOperator(); default_args = {'fivetran_conn_id': 'x'}", False),
    ],
)
def test_a_default_that_has_changed_is_described(call: str, *, shows: bool) -> None:
    module = "fivetran_provider.operators.fivetran"
    said = differs(f"from {module} import FivetranOperator\n{call}")

    assert ('it was "fivetran"' in said) == shows


@pytest.mark.parametrize(
    ("call", "shows"), [("()", True), ("('x')", False), ("(*more)", False)]
)
def test_the_default_connection_of_a_hook_has_changed(
    call: str, *, shows: bool
) -> None:
    said = differs(
        f"from fivetran_provider.hooks.fivetran import FivetranHook\nFivetranHook{call}"
    )

    assert ('it was "fivetran"' in said) == shows


def test_a_default_that_has_not_changed_is_not_described() -> None:
    said = differs(
        "from fivetran_provider_async.operators import FivetranOperator\n"
        "FivetranOperator()"
    )

    assert 'it was "fivetran"' not in said


@pytest.mark.parametrize(
    ("use", "shows"),
    [
        ("hook = AirbyteHook()\nhook.absent(1)", True),
        ("hook: AirbyteHook = AirbyteHook()\ndef f():\n    return hook.absent", True),
        ("AirbyteHook('x').absent(1)", True),
        ("AirbyteHook.absent", True),
        ("hook = AirbyteHook()\nhook.get_job(1)", True),
        ("hook = AirbyteHook()\nhook.run(f)", False),
        ("with AirbyteHook() as hook:\n    hook.get_job(1)", True),
        ("def f(hook: AirbyteHook):\n    hook.get_job(1)", True),
        ("def f(hook: Other):\n    hook.get_job(1)", False),
        ("self.hook = AirbyteHook()\nself.hook.get_job(1)", True),
        ("self.hook = AirbyteHook()\nself.other.get_job(1)", False),
        ("self.hook: Hook = AirbyteHook()\nself.hook.run(f)", False),
        (
            (
                "class A:\n    def f(self):\n        self.h = AirbyteHook()\n"
                "class B:\n    def f(self):\n        self.h.get_job(1)"
            ),
            False,
        ),
        ("AirbyteHook.get_connection('x')", False),
        ("hook = Other()\nhook.absent(1)", False),
    ],
)
def test_a_call_that_a_hook_does_not_have_is_described(
    use: str, *, shows: bool
) -> None:
    said = differs(f"from {AIRBYTE}.hooks.airbyte import AirbyteHook\n{use}")

    assert ("does not offer it; see" in said) == shows


FIVETRAN_HOOK = "from fivetran_provider_async.hooks import FivetranHook"
DBT_HOOK = f"from {DBT}.hooks.dbt import DbtCloudHook"
AIRBYTE_HOOK = f"from {AIRBYTE}.hooks.airbyte import AirbyteHook"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            f"{FIVETRAN_HOOK}\nhook = FivetranHook()\nhook.start_fivetran_sync('a')",
            "3: FivetranHook.start_fivetran_sync: it does not stop a sync",
        ),
        (
            f"{FIVETRAN_HOOK}\nFivetranHook().start_fivetran_sync('a')",
            "2: FivetranHook.start_fivetran_sync: it does not stop a sync",
        ),
        (
            f"{AIRBYTE_HOOK}\ndef stop(hook: AirbyteHook):\n    hook.cancel_job(1)",
            "3: AirbyteHook.cancel_job: it first checks",
        ),
        (
            f"{AIRBYTE_HOOK}\nwait = AirbyteHook.wait_for_job",
            "2: AirbyteHook.wait_for_job: a refusal that lasts ends it",
        ),
        (f"{AIRBYTE_HOOK}\nAirbyteHook().get_job_status(1)", ""),
        (f"{AIRBYTE_HOOK}\nOther().cancel_job(1)", ""),
        (
            f"{FIVETRAN_HOOK}\nFivetranHook(timeout_seconds=5)",
            "2: FivetranHook(timeout_seconds=): it limits each request",
        ),
        (
            f"{FIVETRAN_HOOK}\nFivetranHook(retry_delay=5)",
            "2: FivetranHook(retry_delay=): it has no effect",
        ),
        (
            f"{DBT_HOOK}\nDbtCloudHook().get_conn().get('x')",
            "2: DbtCloudHook.get_conn: it returns the account",
        ),
        (
            f"{DBT_HOOK}\nhook = DbtCloudHook()\nhook.run('x')",
            "3: DbtCloudHook.run: it runs a coroutine function",
        ),
        (
            f"from {DBT}.hooks.dbt import DbtCloudHook\nDbtCloudHook(retry_args={{}})",
            "2: DbtCloudHook(retry_args=): it has no effect",
        ),
    ],
)
def test_a_call_by_hand_that_does_something_else_is_described(
    source: str, said: str
) -> None:
    found = differs(source)

    assert said in found
    assert bool(found) == bool(said)


@pytest.mark.parametrize(
    ("value", "shows"), [("False", True), ("x", True), ("True", False)]
)
def test_a_sync_on_a_worker_returns_when_it_succeeded(
    value: str, *, shows: bool
) -> None:
    found = differs(
        "from fivetran_provider_async.operators import FivetranOperator\n"
        f"FivetranOperator(deferrable={value})"
    )

    assert ("returns the time of the success" in found) == shows


def test_a_sensor_of_a_broken_connection_is_described() -> None:
    found = differs("from fivetran_provider_async.sensors import FivetranSensor")

    assert "FivetranSensor: a connection that is broken fails it" in found


def test_an_argument_that_is_not_there_is_described() -> None:
    said = differs(
        f"from {DBT}.hooks.dbt import DbtCloudHook\nDbtCloudHook('x', absent=1)"
    )

    assert said == "2: DbtCloudHook(absent=): there is no such argument here"


def test_a_subclass_is_described() -> None:
    said = differs(
        f"from {DBT}.hooks.dbt import DbtCloudHook\nclass Mine(DbtCloudHook): ..."
    )

    assert "2: DbtCloudHook: a subclass of it" in said


def test_nothing_is_said_of_a_class_that_stays() -> None:
    assert (
        differs(
            f"import {AIRBYTE}.operators.airbyte as ab\n"
            "ab.AirbyteTriggerSyncOperator(wait_seconds=5), ab.Absent"
        )
        == ""
    )


WHOLE = """
from airflow.sdk import DAG
from airflow.providers.airbyte.operators.airbyte import AirbyteTriggerSyncOperator
from airflow.providers.airbyte.sensors import airbyte
import airflow.providers.dbt.cloud.operators.dbt
import fivetran_provider_async.operators as fivetran

with DAG("moved", schedule=None) as dag:
    synced = AirbyteTriggerSyncOperator(
        task_id="sync", connection_id="c", asynchronous=True
    )
    airbyte.AirbyteJobSensor(task_id="wait", airbyte_job_id=synced.output)
    airflow.providers.dbt.cloud.operators.dbt.DbtCloudRunJobOperator(
        task_id="dbt", job_id=1
    )
    fivetran.FivetranOperator(task_id="fivetran", connector_id="f")
"""


def test_a_dag_that_has_moved_loads() -> None:
    scope: dict[str, object] = {}
    exec(moved(WHOLE), scope)
    dag = scope["dag"]

    assert isinstance(dag, DAG)
    assert sorted(dag.task_ids) == ["dbt", "fivetran", "sync", "wait"]
    assert all(
        type(each).__module__.startswith("async_triggers.") for each in dag.tasks
    )
