"""Grammars in the manner of llama.cpp's examples, with texts that they allow and refuse, and two schemas."""

import ast
import json
import re
from typing import NamedTuple


class Example(NamedTuple):
    gbnf: str
    allowed: tuple[str, ...]
    refused: tuple[str, ...]


ARITHMETIC = Example(
    r"""
# lines like a*(b + 2) = 7
root    ::= line{1,3}
line    ::= sum blank "=" blank number "\n"
sum     ::= product (blank [-+] blank product){0,2}
product ::= factor (blank [*/] blank factor){0,2}
factor  ::= name | number | "(" blank sum blank ")"
name    ::= [a-z] [a-z0-9_]{0,3}
number  ::= [1-9] [0-9]{0,3} | "0"
blank   ::= " "?
""",
    ("a = 1\n", "a*(b + 2)/c_1=70\nx=0\n", "((a))=1\n"),
    ("a = 1", "a = b\n", "a + = 1\n", "(a = 1\n", "a = 01\n", "a  = 1\n", "a=1\n" * 4),
)

JSON = Example(
    r"""
root   ::= value
value  ::= (object | array | string | number | "true" | "false" | "null") ws

object ::=
  "{" ws (
            string ws ":" ws value   # the first member
    ("," ws string ws ":" ws value)*
  )? "}"

array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]"

string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\/bfnrt] | "u00" [0-9a-fA-F]{2})
  )* "\""

number ::= "-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?
ws     ::= | " " | "\n" [ \t]{0,20}
""",
    ("{}", '{"a": [1, -2.5e-3, {"": null}], "é\\n": "日本"}', "[true,false]\n    ", '"\\u00e9"', "-0.5"),
    ("{", '{"a"}', "[1,]", "01", "1.", '"a\nb"', '"\\x"', "{}  ", "'a'", "nul"),
)

LIST = Example(
    'root ::= item+\nitem ::= "- " [^\\r\\n\\x0b\\x0c\\x85\\u2028\\u2029]+ "\\n"',
    ("- milk\n", "- milk\n- ein Müsli\n", "- - \n"),
    ("", "milk\n", "- milk", "- \n", "- a\r\n", "- a\u2028b\n"),
)

CHESS = Example(
    r"""
root    ::= "1. " move " " move "\n" ([1-9] [0-9]? ". " move " " move "\n")*
move    ::= (pawn | piece | castle) [+#]?
piece   ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
pawn    ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
castle  ::= "O-O" "-O"?
""",
    ("1. e4 e5\n", "1. e4 c5\n2. Nf3 dxc6\n13. O-O-O+ Qh4xe1#\n", "1. a8=Q b5\n"),
    ("1. e4\n", "2. e4 e5\n", "1. e9 e5\n", "1. e4 e5\n0. e4 e5\n", "1. O-O-O-O e5\n"),
)

C = Example(
    r"""
root       ::= function+
function   ::= type identifier "(" parameter? ")" space? "{" space? statement* "}" space?
type       ::= "int" space | "float" space | "char" space
identifier ::= [a-zA-Z_] [a-zA-Z_0-9]*
parameter  ::= type identifier
statement  ::= (
    type identifier space? "=" space? expression ";" |
    identifier space? "=" space? expression ";" |
    identifier space? "(" arguments? ")" ";" |
    "return" space expression ";" |
    "while" "(" condition ")" "{" space? statement* "}" |
    "if" "(" condition ")" "{" space? statement* "}" ("else" "{" space? statement* "}")? |
    "//" [^\n]* "\n"
  ) space?
condition  ::= expression space? ("==" | "!=" | "<=" | "<" | ">=" | ">") space? expression
expression ::= term (space? ("+" | "-") space? term)*
term       ::= factor (space? ("*" | "/") space? factor)*
factor     ::= identifier | [0-9]+ | "-" factor | identifier "(" arguments? ")" | "(" expression ")"
arguments  ::= expression ("," space? expression)*
space      ::= [ \t\n]+
""",
    (
        "int f(){}",
        "float while_1(int x) {\n  returns = -x*(2+g(1, y));\n  return whiles;\n  if(a<=b){}else{h();}\n}",
        "int a(){int b=1; inta=2; // int\n}",
    ),
    ("int f()", "int 1f(){}", "intf(){}", "int f(){return;}", "int f(){a=1}", "int f(){if(a){}}", "int f(){a=1+;}"),
)

JAPANESE = Example(
    r"""
root        ::= sentence ([ \t\n] sentence)*
sentence    ::= character+ mark?
character   ::= hiragana | katakana | kanji | cjk
hiragana    ::= [ぁ-ゟ]
katakana    ::= [ァ-ヿ]
kanji       ::= [\u4E00-\u9FFF]
cjk         ::= [\U00020000-\U0002A6DF]
mark        ::= [、。！？]
""",
    ("こんにちは。", "日本 カタカナ！ 漢字", "\U00020001"),
    ("", "hello", "。", "こんにちは。 ", "あ。。", "한국"),
)

ENGLISH = Example(
    r"""
root     ::= sentence+
sentence ::= [A-Z] word-rest (mark? " " word){0,9} [.!?] " "?
word     ::= letter+ ("'" letter+)? | [0-9]+
word-rest ::= letter* ("'" letter+)?
letter   ::= [A-Za-z]
mark     ::= "," | ";" | ":"
""",
    ("Hello.", "It's 5 o'clock, John. Really? Yes!", "A b."),
    ("hello.", "Hello", "Hello , you.", "It''s.", "Hello,you."),
)

EXAMPLES = {
    "arithmetic": ARITHMETIC, "json": JSON, "list": LIST, "chess": CHESS, "c": C, "japanese": JAPANESE,
    "english": ENGLISH,
}  # fmt: skip


# Whether a text is in the language, found without the grammar


def is_arithmetic(text: str) -> bool:
    """Whether Python reads each line as an expression, an equals sign and a number."""
    if not text.endswith("\n"):
        return False
    for line in text.splitlines():
        left, _, right = line.partition("=")
        left = re.sub("[a-z]", "n_", left.strip())  # so that no name is a word of Python's
        nodes = list(ast.walk(ast.parse(left, mode="eval")))
        kinds = (ast.Expression, ast.BinOp, ast.operator, ast.Name, ast.Load, ast.Constant)
        if not all(isinstance(node, kinds) for node in nodes) or not re.fullmatch(r" ?(0|[1-9]\d{0,3})", right):
            return False
    return True


def is_json(text: str) -> bool:
    json.loads(text)
    return True


CHESS_MOVE = r"(?:O-O(?:-O)?|[NBKQR][a-h]?[1-8]?x?[a-h][1-8]|(?:[a-h]x)?[a-h][1-8](?:=[NBKQR])?)[+#]?"
RECOGNISERS = {
    "arithmetic": is_arithmetic,
    "json": is_json,
    "list": re.compile(r"(- [^\r\n\x0b\x0c\x85\u2028\u2029]+\n)+").fullmatch,
    "chess": re.compile(rf"1\. {CHESS_MOVE} {CHESS_MOVE}\n([1-9]\d?\. {CHESS_MOVE} {CHESS_MOVE}\n)*").fullmatch,
}

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "é", "\n", 1, None]}, "maxItems": 3},
        "mail": {"type": ["string", "null"], "pattern": "^[a-z]{1,5}@[a-z]{1,5}\\.(com|org)$"},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "v": {"type": "number", "minimum": -1, "exclusiveMaximum": 2.5},
                "c": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
            },
            "required": ["v"],
            "additionalProperties": False,
        }
    },
}
