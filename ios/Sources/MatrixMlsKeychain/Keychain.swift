/// Where secrets are kept, as little of it as the store key needs. The protocol is what lets the logic
/// above it run where there is no Keychain: in tests, and on Linux.

import Foundation

/// Names one secret.
public struct KeychainItem: Sendable, Hashable {
    /// What the secret is for: the item's service.
    public var service: String
    /// Whose it is: the item's account.
    public var account: String
    /// The access group that an app and its extensions share, with the team's prefix
    /// (`ABCDE12345.org.example.chat`), or the app's own group.
    public var accessGroup: String?

    /// Names a secret.
    public init(service: String, account: String, accessGroup: String? = nil) {
        self.service = service
        self.account = account
        self.accessGroup = accessGroup
    }
}

/// A keeper of secrets. Each call is one step that either happens or does not, also when several
/// processes call at once.
public protocol Keychain: Sendable {
    /// The secret, or nil when there is none. Fails with `KeychainError` when that cannot be said, as before
    /// the device was unlocked for the first time.
    func read(_ item: KeychainItem) throws -> Data?

    /// Keeps a new secret. Fails with `KeychainError.duplicate` when there is one already, and leaves
    /// that one alone.
    func add(_ secret: Data, as item: KeychainItem) throws

    /// Puts a secret in the place of the one there is. Fails with `KeychainError.missing` when there is none.
    func replace(_ secret: Data, of item: KeychainItem) throws

    /// Forgets a secret. It is no error when there is none.
    func delete(_ item: KeychainItem) throws
}
