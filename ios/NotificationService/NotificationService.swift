/// The notification extension: iOS starts it for each push and gives it some thirty seconds and little memory. It
/// fetches the event, decrypts it with a reader beside the app's store, fetches for that what the app has not seen yet,
/// and sets the words. It never opens a
/// machine: the app may have the store open, and only one machine may.

import MatrixMls
import MatrixMlsKeychain
import MatrixMlsPush
import MatrixMlsSampleModel
import UserNotifications
import os

final class NotificationService: UNNotificationServiceExtension {
    private let log = Logger(subsystem: "org.example.chat", category: "push")
    private let delivery = Delivery()
    private var work: Task<Void, Never>?

    override func didReceive(
        _ request: UNNotificationRequest,
        withContentHandler contentHandler: @escaping (UNNotificationContent) -> Void
    ) {
        let original = request.content
        let push = Push(userInfo: original.userInfo)
        let obstacle = PushWords().generic(because: .unavailable("out of time"))
        delivery.prepare(contentHandler, original, instead: obstacle)
        work = Task { [delivery, log] in
            let notice = await NotificationService.handler.notice(for: push)
            if case .generic(_, let because) = notice {
                log.notice("showing the generic text: \(String(describing: because), privacy: .public)")
            }
            delivery.deliver(notice)
        }
    }

    /// The time is up: what is there now is shown, and that is the generic text.
    override func serviceExtensionTimeWillExpire() {
        work?.cancel()
        delivery.deliverInstead()
    }

    /// Everything the app has prepared: the session and the key in the shared Keychain group, the store in the app
    /// group's container.
    private static let handler = PushHandler(
        openReader: {
            guard let places = Places(appGroup: Settings.appGroup) else { throw Missing.appGroup }
            let vault = Vault(keychain: AppleKeychain(), accessGroup: Settings.keychainGroup)
            guard let session = try vault.session() else { throw Missing.session }
            let key = try vault.storeKey(of: session).read()
            return try await MlsReader.open(storePath: places.store.path, storeKey: key)
        },
        fetchEvent: { push in
            let vault = Vault(keychain: AppleKeychain(), accessGroup: Settings.keychainGroup)
            guard let session = try vault.session() else { throw Missing.session }
            return try await Homeserver(session).event(push.eventId, in: push.roomId)
        },
        openTransport: {
            let vault = Vault(keychain: AppleKeychain(), accessGroup: Settings.keychainGroup)
            guard let session = try vault.session() else { throw Missing.session }
            return Homeserver(session).transport
        }
    )

    /// What the app has not prepared.
    private enum Missing: Error {
        case appGroup
        case session
    }
}
