#!/usr/bin/env python3
"""Renders the cases of tests/chat_templates with Jinja2, as transformers sets it up.

Usage: make_template_cases.py [FOLDER]     (needs python3-jinja2; Debian's python3)

Reads FOLDER/*_cases.json: lists of {"name", "template": a file in FOLDER or
"source": text, "variables": {...}}. Writes FOLDER/*_expected.json, which
jinja_cases_test.c holds the engine to byte for byte: the same cases with the
template's text, each variable as a JSON text of its own, and "output", or "raises"
with what Python says.
"""
import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

NOW = 1721997296  # 2024-07-26 12:34:56; jinja_cases_test.c has the same
TRUSTED = {"bos_token", "eos_token"}


class Generation(jinja2.ext.Extension):
    """{% generation %} marks what a model is trained on; the text is as without it."""
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    def strftime_now(form):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(form)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, Generation])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def render(env, source, variables):
    """("output", text) or ("raises", what)."""
    try:
        return "output", env.from_string(source).render(**variables)
    except Exception as e:  # whatever a template can do wrong
        return "raises", f"{type(e).__name__}: {e}"


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else
                          pathlib.Path(__file__).parents[1] / "tests/chat_templates")
    env = environment()
    for path in sorted(folder.glob("*_cases.json")):
        rows = []
        for case in json.loads(path.read_text()):
            source = case.get("source")
            if source is None:
                source = (folder / case["template"]).read_text()
            variables = case.get("variables", {})
            kind, text = render(env, source, variables)
            rows.append({
                "name": case["name"],
                "source": source if "source" in case else None,
                "template": case.get("template"),
                "trusted": {k: v for k, v in variables.items() if k in TRUSTED},
                "json": {k: json.dumps(v, ensure_ascii=False) for k, v in variables.items()
                         if k not in TRUSTED},
                kind: text,
            })
        out = folder / path.name.replace("_cases", "_expected")
        out.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n")
        raised = sum("raises" in row for row in rows)
        print(f"{out.name}: {len(rows)} cases, {raised} of them raise")


if __name__ == "__main__":
    main()
