"""All that the page says, in one place for translation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The words of the page; for another language, an object with others.

    Those with names in braces have these filled in.
    """

    lang: str = "en"
    """The language's tag (BCP 47), of the whole page."""
    dir: str = "ltr"
    """Which way it is written: ``"ltr"`` or ``"rtl"``."""

    title: str = "Your devices"
    intro: str = "You are signed in on these browsers. Sign out any that you do not know or no longer use."
    nothing: str = "No browser is on record."
    """Where the user is signed in for this visit alone."""
    this_browser: str = "This browser"
    browser_on_system: str = "{browser} on {system}"
    unknown_browser: str = "Unknown browser"
    first_seen: str = "Signed in"
    last_seen: str = "Last seen"
    active_now: str = "Active now"
    address: str = "Address"
    sign_out: str = "Sign out"
    sign_out_device: str = "({device})"
    """What a screen reader says after ``sign_out``; not shown."""
    sign_out_others: str = "Sign out all other browsers"

    ended_one: str = "That browser is signed out."
    ended_others: str = "All other browsers are signed out."
    ended_already: str = "That browser was signed out already."

    ask_title: str = "Type your password again"
    ask_for_one: str = "This signs out {device}."
    ask_for_others: str = "This signs out all browsers but this one."
    ask_label: str = "Password"
    ask_button: str = "Sign out"
    ask_wrong: str = "That password is not right."
    cancel: str = "Cancel"

    anonymous_title: str = "You are signed out"
    anonymous: str = "Sign in to see your devices."
    sign_in: str = "Sign in"
    unavailable_title: str = "Not available"
    unavailable: str = "Your devices cannot be shown or changed at the moment. Try again in a minute."
    refused_title: str = "Nothing was done"
    refused: str = "This request did not come from this page. Open the page again and try once more."
    back: str = "Back to your devices"

    months: tuple[str, ...] = _MONTHS
    """Twelve, from January."""
    time: str = "{day} {month} {year}, {hour:02}:{minute:02} UTC"

    def __post_init__(self) -> None:
        if len(self.months) != 12:
            raise ValueError(f"months must be twelve, not {len(self.months)}")

    def time_of(self, when: datetime) -> str:
        """Return a time as the page shows it, in UTC: the server does not know the reader's time zone."""
        utc = when.astimezone(UTC)
        month = self.months[utc.month - 1]
        return self.time.format(day=utc.day, month=month, year=utc.year, hour=utc.hour, minute=utc.minute)
