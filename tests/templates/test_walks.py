"""Each shipped workflow does what its description says, from the first step to a sensible end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.domain.enrollment import State
from core.domain.steps.shapes import Lookups
from core.domain.workflow.expressions import Kind
from tests.templates.walking import MONDAY, Walk

DAY = timedelta(days=1)


def _no_failures(walk: Walk) -> None:
    assert [entry for entry in walk.trace if entry.outcome == "failed"] == []


def _inbound(decision: str) -> Walk:
    walk = Walk("inbound-qualification", answers={"qualify": {"decision": decision, "score": 71, "tier": "A"}})
    return walk.enter(walk.event("form.submitted", form="demo", message="We are 40 people"))


def test_a_qualified_form_reaches_sales_who_are_reminded_after_four_office_hours() -> None:
    walk = _inbound("qualified")
    assert walk.path == ["thanks", "qualify", "hand_over", "tell_sales"]
    assert walk.lead["status"] == "working"
    assert walk.enrollment.due_at == MONDAY + timedelta(hours=4)
    walk.until_due()
    assert walk.emitted == ["sales.lead_ready", "sales.lead_waits"]
    assert walk.end[0] is State.COMPLETED
    _no_failures(walk)


def test_a_booked_meeting_is_the_goal_of_an_inbound_lead() -> None:
    walk = _inbound("qualified").happens("meeting.booked")
    assert walk.enrollment.converted == "meeting_booked"
    assert walk.end[0] is State.COMPLETED
    assert walk.emitted == ["sales.lead_ready"]


@pytest.mark.parametrize(("approved", "stage"), [(True, None), (False, "nurture")])
def test_a_doubtful_lead_goes_where_a_person_says(approved: bool, stage: str | None) -> None:
    walk = _inbound("needs_approval")
    assert walk.enrollment.state is State.AWAITING_APPROVAL
    walk.decided(approved)
    assert walk.contact.get("lifecycle_stage") == stage
    _no_failures(walk)


def test_a_lead_of_whom_too_little_is_known_is_asked_and_scored_again() -> None:
    walk = _inbound("needs_info")
    assert [message.subject for message in walk.messages] == ["We have your message", "One question before we talk"]
    walk.answers["qualify"]["decision"] = "qualified"
    walk.happens("reply.received", channel="email")
    assert walk.path[-3:] == ["qualify_again", "hand_over", "tell_sales"]
    _no_failures(walk)


def test_a_disqualified_lead_is_declined() -> None:
    assert _inbound("disqualified").end == (State.EXITED, "Disqualified with 71 points.")


def test_a_trial_without_use_gets_one_nudge_an_offer_and_an_end() -> None:
    walk = Walk("trial-nurture")
    walk.enter(walk.event("trial.started", plan="Team"))
    while not walk.enrollment.state.over:
        walk.until_due()
    assert walk.now - MONDAY == timedelta(days=14)
    nudge = "Three steps, ten minutes" if "checklist" in walk.path else "Shall we set it up together?"
    assert [message.subject for message in walk.messages] == ["Your trial has begun", nudge, "Is something missing?"]
    assert walk.end[0] is State.COMPLETED
    assert walk.lists == {"trial-ended"}
    _no_failures(walk)


@pytest.mark.parametrize("day", range(7))
@pytest.mark.parametrize("hours", [0, 10.5])  # the morning, and an evening within the quiet hours
def test_a_trial_is_welcomed_at_once_and_asked_about_before_its_last_day(day: int, hours: float) -> None:
    begin = MONDAY + day * DAY + timedelta(hours=hours)
    walk = Walk("trial-nurture", now=begin)
    walk.enter(walk.event("trial.started"))
    assert [message.subject for message in walk.messages] == ["Your trial has begun"]
    while walk.messages[-1].subject != "Is something missing?":
        walk.until_due()
    assert 8 * DAY < walk.now - begin < 13 * DAY


@pytest.mark.parametrize("after", [timedelta(hours=1), 6 * DAY])  # in the first wait, or in one for no event at all
def test_whoever_has_used_a_trial_is_not_told_that_they_have_not(after: timedelta) -> None:
    walk = Walk("trial-nurture")
    walk.enter(walk.event("trial.started"))
    while walk.enrollment.due_at is not None and walk.enrollment.due_at <= MONDAY + after:
        walk.until_due()
    if walk.enrollment.step_id == "first_use":
        walk.happens("feature.used", after)
    else:
        walk.passes_by("feature.used", MONDAY + after - walk.now)
    while not walk.enrollment.state.over:
        walk.until_due()
    assert "Which plan suits you?" in [message.subject for message in walk.messages]


def test_a_trial_in_use_is_shown_the_plans_and_ends_when_somebody_buys() -> None:
    walk = Walk("trial-nurture")
    walk.enter(walk.event("trial.started")).happens("feature.used", DAY, feature="Import")
    assert "After Import, " in walk.messages[-1].text
    walk.until_due()
    assert walk.messages[-1].subject == "Which plan suits you?"
    walk.happens("subscription.started", DAY)
    assert (walk.end[0], walk.enrollment.converted) == (State.COMPLETED, "subscribed")
    _no_failures(walk)


def test_a_reply_ends_the_trial_nurture() -> None:
    walk = Walk("trial-nurture")
    walk.enter(walk.event("trial.started")).happens("reply.received")
    assert walk.end[0] is State.EXITED


def _no_show() -> Walk:
    walk = Walk("no-show")
    return walk.enter(walk.event("meeting.no_show", meeting_id="m-1", meeting_title="Demo", booking_url="https://x.io"))


def test_who_misses_a_meeting_is_written_to_twice_and_then_left_to_the_owner() -> None:
    walk = _no_show()
    assert walk.enrollment.key == "m-1"
    while not walk.enrollment.state.over:
        walk.until_due()
    assert walk.path == ["grace", "sorry", "next_working_day", "second_try", "give_time", "tell_owner", "note"]
    assert "we missed you in Demo" in walk.messages[0].text
    assert walk.emitted == ["sales.no_show_unanswered"]
    _no_failures(walk)


def test_who_was_only_late_is_not_written_to() -> None:
    walk = _no_show()
    walk.happens("meeting.joined", timedelta(minutes=5), meeting_id="m-1")
    assert walk.end == (State.EXITED, "They joined after all.")
    assert walk.messages == []


def test_who_books_again_has_done_what_the_no_show_workflow_is_for() -> None:
    walk = _no_show().until_due().happens("meeting.booked")
    assert walk.enrollment.converted == "booked_again"


def _quiet_customer(contact_id: str) -> Walk:
    last_seen = (MONDAY - 70 * DAY).isoformat()
    return Walk("reactivation", contact={"custom": {"last_seen_at": last_seen}}).enter()


def test_a_quiet_customer_who_does_not_come_back_becomes_dormant() -> None:
    walk = _quiet_customer("cnt_1")
    while not walk.enrollment.state.over:
        walk.until_due()
    variant = walk.enrollment.outputs["approach"]["variant"]
    if variant == "control":
        assert walk.messages == []
    else:
        assert [entry for entry in walk.path if entry in ("news", "offer", "second_try")] == [variant, "second_try"]
        assert walk.lists == {"dormant"}
    _no_failures(walk)


def test_a_customer_who_opens_the_app_again_has_come_back() -> None:
    walk = _quiet_customer("cnt_1").happens("app.opened")
    assert walk.enrollment.converted == "came_back"


def _dm() -> Walk:
    return (
        Walk("cold-dm", now=datetime(2026, 3, 2, 15, tzinfo=UTC), contact={"custom": {"handle": "@ada"}}).enter().sent()
    )


def test_a_prospect_who_never_replies_gets_three_messages_and_no_more() -> None:
    walk = _dm()
    while not walk.enrollment.state.over:
        walk.until_due()
    assert [(message.channel, message.to, message.ordinal) for message in walk.messages] == [
        ("dm", "@ada", 1),
        ("dm", "@ada", 2),
        ("dm", "@ada", 3),
    ]
    assert walk.end == (State.EXITED, "No reply to three messages.")
    assert [entry for entry in walk.trace if entry.outcome == "held"] == []


@pytest.mark.parametrize(
    ("intent", "reason", "lists"),
    [("no", "Does not want to be written to.", {"dm-opted-out"}), ("interested", "", set()), ("unclear", "", set())],
)
def test_a_reply_is_read_and_led_where_it_belongs(intent: str, reason: str, lists: set[str]) -> None:
    walk = _dm().until_due().happens("reply.received", channel="dm", text="Tell me more")
    walk.answered(intent=intent, summary="Wants more")
    assert walk.lists == lists
    assert walk.emitted == ([] if reason else ["sales.dm_reply"])
    assert walk.enrollment.end_reason == reason or not reason
    _no_failures(walk)


def test_who_asks_for_later_comes_to_the_list_of_the_second_round() -> None:
    walk = _dm().happens("reply.received", channel="dm", text="In spring").answered(intent="later").until_due()
    assert walk.lists == {"dm-second-round"}


def test_a_reply_that_no_agent_reads_in_time_goes_to_a_person() -> None:
    walk = _dm().happens("reply.received", channel="dm", text="?").until_due()
    assert walk.emitted == ["sales.dm_reply"]


def _warm(**answer: str) -> Walk:
    walk = Walk("email-warmup", contact={"phone": "+4930123"}, lists={"warm-up"})
    return walk.enter()


def test_a_prospect_who_reacts_comes_on_the_call_list_with_notes_and_off_it_after_the_call() -> None:
    walk = _warm().sent().happens("email.clicked", DAY, url="https://example.com/how")
    assert walk.lists == {"call-today"}
    walk.answered(notes="Runs a team of 40.")
    assert walk.contact["custom"]["call_notes"] == "Runs a team of 40."
    assert walk.emitted == ["sales.call_wanted"]
    if walk.enrollment.step_id == "when_open":
        walk.until_due()
    walk.happens("call.logged", result="reached")
    assert (walk.end[0], walk.lists) == (State.COMPLETED, set())
    assert walk.contact["lifecycle_stage"] == "called"
    _no_failures(walk)


def test_a_prospect_who_stays_silent_gets_three_mails_and_leaves_the_list() -> None:
    walk = _warm().sent()
    while not walk.enrollment.state.over:
        walk.until_due()
    assert len(walk.messages) == 3
    assert (walk.end[0], walk.lists) == (State.COMPLETED, set())


def test_an_address_that_does_not_take_mail_ends_the_warm_up() -> None:
    walk = _warm().sent(False)
    assert walk.lists == {"bounced"}
    assert walk.end[0] is State.EXITED


def test_a_call_that_nobody_makes_is_told_to_the_owner() -> None:
    walk = _warm().sent().happens("reply.received", text="Call me").answered(notes="Call.")
    while not walk.enrollment.state.over:
        walk.until_due()
    assert walk.emitted == ["sales.call_wanted", "sales.call_missed"]
    assert walk.lists == set()


def _workspace() -> Walk:
    walk = Walk("event-onboarding")
    return walk.enter(walk.event("workspace.created", workspace_id="w-1", seats=12))


def test_a_workspace_that_reaches_its_milestones_is_live() -> None:
    walk = _workspace()
    assert "You have 12 seats" in walk.messages[0].text
    walk.happens("file.uploaded", DAY, workspace_id="w-1")
    walk.happens("member.joined", 2 * DAY, workspace_id="w-1")
    assert walk.path[-3:] == ["live", "stage", "tell"]
    assert (walk.end[0], walk.enrollment.converted) == (State.COMPLETED, "workspace_live")
    assert walk.contact["lifecycle_stage"] == "onboarded"
    _no_failures(walk)


def test_a_workspace_that_is_stuck_is_asked_once_and_then_handed_over() -> None:
    walk = _workspace().until_due().until_due()
    assert walk.path[-3:] == ["data", "stuck", "data_again"]
    walk.delivered()
    assert walk.end == (State.EXITED, "Success has taken over.")


def test_the_events_of_another_workspace_do_not_count() -> None:
    walk = _workspace()
    with pytest.raises(AssertionError, match="does not care"):
        walk.happens("file.uploaded", workspace_id="w-2")


def test_a_contract_whose_date_is_gone_from_the_crm_does_not_lapse() -> None:
    walk = _customer(900)
    walk.contact = {"custom": {"contract_value": 900}}
    walk.until_due()
    assert walk.end == (State.EXITED, "The renewal date 2026-06-01 is gone from the CRM.")
    assert (walk.messages, walk.emitted) == ([], ["success.renewal_begins", "success.renewal_date_gone"])
    assert "lifecycle_stage" not in walk.contact


def _defined(name: str, kind: Kind | None) -> Lookups:
    return Lookups(published_with=frozenset({(f"contact.custom.{name}", kind)} if kind else ()))


@pytest.mark.parametrize("kind", [None, "date", "instant", "string"])
@pytest.mark.parametrize("text", ["2026-06-01", "2026-06-01T08:00:00+00:00"])
def test_a_template_takes_its_date_however_the_field_is_defined(kind: Kind | None, text: str) -> None:
    if kind == "date":
        text = text[:10]
    renewal = _customer(900, text, _defined("renewal_date", kind))
    assert (renewal.enrollment.key, renewal.enrollment.step_id) == ("2026-06-01", "two_months")
    seen = {"last_seen_at": text.replace("2026-06", "2025-12")}
    walk = Walk("reactivation", contact={"custom": seen}, lookups=_defined("last_seen_at", kind)).enter()
    assert walk.enrollment.state is State.ACTIVE


def _customer(value: float, renewal: str = "2026-06-01", lookups: Lookups | None = None) -> Walk:
    custom = {"renewal_date": renewal, "contract_value": value}
    return Walk(
        "renewal", lookups=lookups or Lookups(), now=datetime(2026, 3, 5, 5, tzinfo=UTC), contact={"custom": custom}
    ).enter()


def test_a_large_contract_gets_a_discount_that_somebody_approved() -> None:
    walk = _customer(50_000)
    assert walk.enrollment.key == "2026-06-01"
    assert walk.enrollment.due_at == datetime(2026, 4, 2, 7, tzinfo=UTC)  # 60 days before, 09:00 in Berlin
    walk.until_due().decided(True)
    assert walk.messages[-1].subject == "Your renewal, with 10 % for staying"
    assert "01 June 2026" in walk.messages[-1].text
    walk.happens("contract.renewed", 10 * DAY)
    assert (walk.end[0], walk.enrollment.converted) == (State.COMPLETED, "renewed")
    _no_failures(walk)


def test_a_small_contract_that_nobody_renews_lapses() -> None:
    walk = _customer(900)
    while not walk.enrollment.state.over:
        walk.until_due()
    assert walk.emitted == ["success.renewal_begins", "success.renewal_open"]
    assert walk.end == (State.EXITED, "The contract of 2026-06-01 lapsed.")
    assert walk.contact["lifecycle_stage"] == "lapsed"
    assert walk.now == datetime(2026, 6, 1, 22, tzinfo=UTC)  # the day after begins in Berlin


def test_another_renewal_date_ends_the_enrollment_of_the_old_one() -> None:
    walk = _customer(900)
    walk.contact = {"custom": {"renewal_date": "2027-06-01"}}
    walk.until_due()
    assert walk.end[0] is State.EXITED
    assert "moved" in walk.end[1]
