/// What a push says about the event it is for: the fields of a Matrix push gateway's APNs payload.

/// A push, as far as a notification needs it.
public struct Push: Sendable, Equatable {
    /// The room.
    public var roomId: String
    /// The event.
    public var eventId: String
    /// The room's name, where the pusher's format carries it.
    public var roomName: String?
    /// The sender's display name, likewise.
    public var senderName: String?

    /// A push about an event.
    public init(roomId: String, eventId: String, roomName: String? = nil, senderName: String? = nil) {
        self.roomId = roomId
        self.eventId = eventId
        self.roomName = roomName
        self.senderName = senderName
    }

    /// Reads a notification's `userInfo`; nil when it names no event.
    public init?(userInfo: [AnyHashable: Any]) {
        func text(_ key: String) -> String? {
            guard let text = userInfo[key] as? String, !text.isEmpty else { return nil }
            return text
        }
        guard let roomId = text("room_id"), let eventId = text("event_id") else { return nil }
        self.init(
            roomId: roomId,
            eventId: eventId,
            roomName: text("room_name"),
            senderName: text("sender_display_name")
        )
    }
}
