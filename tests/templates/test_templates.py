"""The shipped workflows: complete documents that compile as they stand, and fit the published schema."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator

from core.domain.names import is_slug
from core.domain.qualification import lint
from core.domain.qualification import schema as models
from core.domain.routing.parse import compiled as compiled_routing
from core.domain.routing.schema import routing_schema
from core.domain.workflow.compile import compile_document
from core.domain.workflow.document import from_wire, to_wire
from core.domain.workflow.schema import document_schema
from core.domain.workflow.source import parse, render
from core.templates import SCHEMA_LINE, Template, routings, scoring_models, templates

each = pytest.mark.parametrize("template", templates(), ids=lambda template: template.id)


def test_these_workflows_are_shipped() -> None:
    assert [template.id for template in templates()] == [
        "cold-dm",
        "email-warmup",
        "event-onboarding",
        "inbound-qualification",
        "no-show",
        "reactivation",
        "renewal",
        "trial-nurture",
    ]


@each
def test_a_template_compiles_as_it_stands(template: Template) -> None:
    assert compile_document(parse(template.source)).problems == ()


@each
def test_a_template_fits_the_schema(template: Template) -> None:
    assert list(Draft202012Validator(document_schema()).iter_errors(parse(template.source))) == []


@pytest.mark.parametrize("template", scoring_models(), ids=lambda template: template.id)
def test_a_scoring_model_has_no_problems_no_doubts_and_fits_its_schema(template: Template) -> None:
    assert lint.warnings(template.source) == ()
    assert list(Draft202012Validator(models.document_schema()).iter_errors(parse(template.source))) == []
    assert template.source.startswith("# yaml-language-server: $schema=scoring_model.schema.json\n")


def test_a_routing_compiles_and_fits_its_schema() -> None:
    (template,) = routings()
    assert [rule.id for rule in compiled_routing(template.source).rules][-1] == "catch_all"
    assert list(Draft202012Validator(routing_schema()).iter_errors(parse(template.source))) == []


@each
def test_a_template_survives_the_contract_and_its_own_rendering(template: Template) -> None:
    document = parse(template.source)
    assert compile_document(from_wire(to_wire(document))).version is not None
    assert parse(render(document)) == document


@each
def test_a_template_says_what_it_is_and_how_editors_complete_it(template: Template) -> None:
    assert is_slug(template.id)
    assert template.title
    assert 60 < len(template.description) < 300
    first, *rest = template.source.splitlines()
    assert first == SCHEMA_LINE
    assert sum(line.lstrip().startswith("#") for line in rest) >= 5


@each
def test_a_template_does_what_a_professional_would(template: Template) -> None:
    document = parse(template.source)
    leaves = [str(rule) for rule in document["exit_on"]]
    assert any("contact.unsubscribed" in rule for rule in leaves)
    assert "quiet_hours" in document
    mails = [step for step in document["steps"] if step["kind"] == "message"]
    assert len(mails) < 3 or "frequency_caps" in document
