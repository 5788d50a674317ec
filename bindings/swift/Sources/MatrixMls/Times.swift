// Times in seconds, as Foundation has them, where the generated code has numbers of milliseconds.

import Foundation

extension RoomSettings {
    /// `rotateAfterMs` in seconds.
    public var rotateAfter: TimeInterval {
        get { seconds(rotateAfterMs) }
        set { rotateAfterMs = milliseconds(newValue) }
    }

    /// `keptForMs` in seconds.
    public var keptFor: TimeInterval {
        get { seconds(keptForMs) }
        set { keptForMs = milliseconds(newValue) }
    }

    /// `keepHistoryMs` in seconds; nil is for ever.
    public var keepHistory: TimeInterval? {
        get { keepHistoryMs.map(seconds) }
        set { keepHistoryMs = newValue.map(milliseconds) }
    }
}

private func seconds(_ milliseconds: UInt64) -> TimeInterval {
    TimeInterval(milliseconds) / 1_000
}

/// What does not fit counts as the longest or shortest that does.
private func milliseconds(_ seconds: TimeInterval) -> UInt64 {
    UInt64(exactly: (seconds * 1_000).rounded()) ?? (seconds > 0 ? UInt64.max : 0)
}
