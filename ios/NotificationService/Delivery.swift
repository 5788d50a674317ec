/// Hands a notification to the system once, whichever is first: the decrypted text or the end of the time.

import Foundation
import MatrixMlsPush
import UserNotifications

/// One notification on its way to the screen. It is prepared on one thread and may be delivered on two others.
final class Delivery: @unchecked Sendable {
    // Every access to `pending` is under `lock`.
    private let lock = NSLock()
    private var pending: Pending?

    private struct Pending {
        let handler: (UNNotificationContent) -> Void
        let original: UNNotificationContent
        let instead: PushNotice
    }

    /// Keeps what the system gave, and what to show when nothing better comes in time.
    func prepare(
        _ handler: @escaping (UNNotificationContent) -> Void, _ original: UNNotificationContent, instead: PushNotice
    ) {
        lock.withLock { pending = Pending(handler: handler, original: original, instead: instead) }
    }

    /// Shows a notice.
    func deliver(_ notice: PushNotice) {
        guard let pending = take() else { return }
        pending.handler(Self.content(notice, pending.original))
    }

    /// Shows what was prepared.
    func deliverInstead() {
        guard let pending = take() else { return }
        pending.handler(Self.content(pending.instead, pending.original))
    }

    private func take() -> Pending? {
        lock.withLock {
            defer { pending = nil }
            return pending
        }
    }

    private static func content(_ notice: PushNotice, _ original: UNNotificationContent) -> UNNotificationContent {
        // Empty content shows nothing, given the entitlement com.apple.developer.usernotifications.filtering.
        // Without it the system shows the push as it came.
        guard let text = notice.text else { return UNNotificationContent() }
        guard let content = original.mutableCopy() as? UNMutableNotificationContent else { return original }
        content.title = text.title
        content.body = text.body
        if let room = Push(userInfo: original.userInfo)?.roomId { content.threadIdentifier = room }
        return content
    }
}
