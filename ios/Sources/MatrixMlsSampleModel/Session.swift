/// A login, and its place in the Keychain: the access token is as secret as the store's key, and the notification
/// extension needs both.

import Foundation
import MatrixMls
import MatrixMlsKeychain

/// A device that is logged in.
public struct Session: Sendable, Codable, Equatable {
    /// The homeserver's base URL.
    public let homeserver: String
    /// The Matrix user id.
    public let userId: String
    /// The Matrix device id.
    public let deviceId: String
    let accessToken: String
}

extension Session: CustomStringConvertible, CustomDebugStringConvertible {
    /// Whose it is, without the token, for logs.
    public var description: String { "\(userId)/\(deviceId)" }

    /// The same.
    public var debugDescription: String { description }
}

/// Where the app and its extension keep the session and the store's key.
public struct Vault: Sendable {
    private let keychain: any Keychain
    private let accessGroup: String?
    private let item: KeychainItem

    /// A place in a Keychain; `accessGroup` is the one that the app shares with its extension.
    public init(keychain: any Keychain, accessGroup: String? = nil) {
        self.keychain = keychain
        self.accessGroup = accessGroup
        item = KeychainItem(
            service: "org.matrixmls.sample.session", account: "session", accessGroup: accessGroup)
    }

    /// The session, or nil when nobody is logged in.
    public func session() throws -> Session? {
        guard let bytes = try keychain.read(item) else { return nil }
        do {
            return try JSONDecoder().decode(Session.self, from: bytes)
        } catch {
            throw KeychainError.malformed(reason: "it is no session")
        }
    }

    /// The place of the key of a session's store.
    public func storeKey(of session: Session) -> KeychainStoreKey {
        KeychainStoreKey(
            userId: session.userId, deviceId: session.deviceId, accessGroup: accessGroup, keychain: keychain)
    }

    func keep(_ session: Session) throws {
        let bytes = try JSONEncoder().encode(session)
        do {
            try keychain.add(bytes, as: item)
        } catch KeychainError.duplicate {
            try keychain.replace(bytes, of: item)
        }
    }

    /// Forgets the session and its store's key. A session that makes no sense is forgotten as well; its key then
    /// stays and opens nothing.
    func clear() throws {
        do {
            if let session = try session() { try storeKey(of: session).delete() }
        } catch KeychainError.malformed {
            // There is nothing in it that names a key.
        }
        try keychain.delete(item)
    }
}
