/// A Keychain that lives in memory: for previews and tests, and for Linux, which has none.

import Foundation

/// Keeps secrets until it is freed, with the promises of the real one.
public final class MemoryKeychain: Keychain, @unchecked Sendable {
    // Every access to `secrets` is under `lock`.
    private let lock = NSLock()
    private var secrets: [KeychainItem: Data] = [:]

    /// An empty one.
    public init() {}

    public func read(_ item: KeychainItem) -> Data? {
        lock.withLock { secrets[item] }
    }

    public func add(_ secret: Data, as item: KeychainItem) throws {
        try lock.withLock {
            if secrets[item] != nil { throw KeychainError.duplicate }
            secrets[item] = secret
        }
    }

    public func replace(_ secret: Data, of item: KeychainItem) throws {
        try lock.withLock {
            if secrets[item] == nil { throw KeychainError.missing }
            secrets[item] = secret
        }
    }

    public func delete(_ item: KeychainItem) {
        lock.withLock { secrets[item] = nil }
    }
}
