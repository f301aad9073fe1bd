"""Every word of the console is there in both languages, and no page holds what its policy forbids."""

import ast
import re
from pathlib import Path

import pytest

import gateway.console
from gateway.app import hurrying, letter_words
from gateway.console.rules.access import GUARDED
from gateway.console.rules.states import LOOKS
from gateway.console.words import KOREAN, language_of, translated
from gateway.directory.console_roles import ConsoleRole
from gateway.network.exchange import Operation
from gateway.views.story import WORDS, Said

ROOM = Path(gateway.console.__file__).parent
TEMPLATES = sorted((ROOM / "templates").glob("*.html"))
NAV = re.compile(r'\("/[a-z-]*", "([^"]+)", "[a-z]+"\)')


STATES = {state for state in LOOKS if state.islower()}
"""Those that have a word: a consent's status has its code in every language."""


def said_in_templates() -> set[str]:
    texts = [t.read_text() for t in TEMPLATES]
    said = {m for text in texts for m in re.findall(r'\bt\("([^"]+)"', text)}
    # Choices between two, and the names of the pages.
    said |= {m for text in texts for pair in re.findall(r'\bt\("([^"]+)" if .*? else "([^"]+)"', text) for m in pair}
    return said | {m for text in texts for m in NAV.findall(text)}


def said_in_code() -> set[str]:
    """What handlers hand to templates that translate it: sentences, and the titles of what needs somebody."""
    said = {g.title for g in GUARDED.values()} | {g.consequence for g in GUARDED.values()}
    said |= {words for g in GUARDED.values() for words in g.choices.values()}
    said |= {w.advice for w in letter_words.WORDS.values()} | {letter_words.why("x").advice}
    said |= {hurrying.ASKED, hurrying.REVERSED, hurrying.REMINDED}
    said |= {role.value for role in ConsoleRole} | STATES | {operation.value for operation in Operation} | WORDS
    for module in ROOM.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if called == "refused":
                said |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
            if called == "Need" and isinstance(node.args[0], ast.Constant):
                said.add(str(node.args[0].value))
            said |= {
                k.value.value
                for k in node.keywords
                if k.arg == "error" and isinstance(k.value, ast.Constant) and k.value.value
            }
    return said


def test_everything_that_is_said_has_its_korean() -> None:
    said = said_in_templates() | said_in_code()
    assert len(said) > 120
    assert sorted(w for w in said if w not in KOREAN) == []
    assert all(re.search(r"[가-힣/]", korean) for korean in KOREAN.values())


def test_what_happened_is_told_with_the_same_values_in_both_languages() -> None:
    names = re.compile(r"{\w+}")
    assert {w for w in WORDS if sorted(names.findall(w)) != sorted(names.findall(KOREAN[w]))} == set()

    def korean(text: str) -> str:
        return translated(text, "ko")

    # A value may have braces of its own, and may be a word.
    assert Said("network code {code}", {"code": "{x}"}).told(korean) == "카드망 코드 {x}"
    assert Said("{code}", {"code": "approved"}).told(korean) == "승인됨"
    assert Said("{code}", {"code": "AC04"}).told(korean) == "AC04"


def test_nothing_is_kept_that_nobody_says() -> None:
    code = "".join(p.read_text() for p in ROOM.rglob("*.py")) + "".join(t.read_text() for t in TEMPLATES)
    code += (ROOM.parent / "views" / "attention.sql").read_text() + (ROOM.parent / "app" / "hurrying.py").read_text()
    code += (ROOM.parent / "views" / "story.py").read_text()
    others = (
        {w.advice for w in letter_words.WORDS.values()}
        | {r.value for r in ConsoleRole}
        | {operation.value for operation in Operation}
        | WORDS
    )
    unsaid = [w for w in KOREAN if w not in code and w not in others]
    assert unsaid == []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
def test_no_page_has_a_script_or_a_style_in_it(template: Path) -> None:
    text = template.read_text()
    assert re.findall(r"\sstyle=|<style|\son[a-z]+=|javascript:|hx-on|\|safe\b|autoescape", text) == []
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))
    assert re.findall(r"(?:src|href|action)=\"(?:https?:)?//", text) == []


@pytest.mark.parametrize(
    ("cookie", "accepted", "language"),
    [
        ("ko", "en", "ko"),
        ("xx", "ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        (None, "de, en-GB;q=0.7", "en"),
        (None, "de", "en"),
        (None, "", "en"),
    ],
)
def test_the_language_is_the_chosen_one_or_else_the_browsers_first(
    cookie: str | None, accepted: str, language: str
) -> None:
    assert language_of(cookie, accepted) == language


def test_what_is_nobodys_language_stays_as_it_is() -> None:
    assert translated("order-17", "ko") == "order-17"
    assert translated("Payments", "ko") == "결제"
    assert translated("Payments", "en") == "Payments"
