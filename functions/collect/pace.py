"""How many requests to collect at a time, and when the next: decisions only, no I/O, time as an argument."""

from __future__ import annotations

#: Requests at a time: what ten instances of collect take, two each.
MAX_IN_FLIGHT = 20
#: Waiting messages that deserve a request more: so many that each request gets a full group. With four, the
#: groups of a large upload were smaller, and moving it took a quarter more CPU.
MESSAGES_PER_REQUEST = 12
#: Seconds after which a request that is not answered yet holds up no other: its instance may hang.
SLOW_S = 5.0
#: Seconds of the first pause after a failure, and of the longest: doubled in between. A small upload waits no
#: longer than that once collect is back, and one request a second costs nobody anything.
BACKOFF_S = (0.1, 1.0)
#: Collect may ask for a longer pause (Retry-After), but not for any.
MOST_RETRY_AFTER_S = 60.0


class Pace:
    """Slows down when collect fails, and finds back when it answers; for one thread.

    After a failure one request at a time tries, at growing intervals. Each that succeeds allows twice as
    many, so that a collect that comes back is not run over by what has gathered meanwhile.
    """

    def __init__(self) -> None:
        self._most = MAX_IN_FLIGHT
        self._failures = 0
        self._failed_at = -float("inf")
        #: Before this time no request is begun.
        self.quiet_until = -float("inf")

    def allowed(self, depth: int, slow: int) -> int:
        """Tell how many requests there may be at a time.

        Args:
            depth: Messages that wait.
            slow: Requests under way for longer than SLOW_S.
        """
        deserved = max(1, min(self._most, -(-depth // MESSAGES_PER_REQUEST)))
        return min(deserved + slow, MAX_IN_FLIGHT)

    def succeeded(self) -> bool:
        """Note an answer that was good; whether it is the first since a failure."""
        recovered = self._failures > 0
        self._failures = 0
        self._most = min(self._most * 2, MAX_IN_FLIGHT)
        return recovered

    def failed(self, begun_at: float, now: float, retry_after_s: float = 0.0) -> bool:
        """Note a request that failed; whether it is the first since a good answer.

        Requests that were under way when another failed tell nothing new: twenty that meet the same outage
        are one failure, not twenty.

        Args:
            begun_at: When the request was begun.
            now: The time.
            retry_after_s: How long a pause was asked for.
        """
        first = not self._failures
        pause_s = min(retry_after_s, MOST_RETRY_AFTER_S)
        if begun_at >= self._failed_at:
            least_s, most_s = BACKOFF_S
            # The exponent is bounded too: an outage may last for days.
            pause_s = max(pause_s, min(least_s * 2 ** min(self._failures, 16), most_s))
            self._failures += 1
            self._failed_at = now
            self._most = 1
        self.quiet_until = max(self.quiet_until, now + pause_s)
        return first
