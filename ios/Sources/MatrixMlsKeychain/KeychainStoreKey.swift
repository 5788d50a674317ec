/// The key of a device's store, made once and kept in the Keychain. The store itself may be in a container that an
/// app and its extensions share; its key is readable only on this device, after the first unlock.

import Foundation
import MatrixMls

/// The place in the Keychain of one device's store key.
public struct KeychainStoreKey: Sendable {
    /// How many bytes a raw store key has.
    public static let length = 32

    /// The item that holds the key.
    public let item: KeychainItem
    private let keychain: any Keychain

    /// The store key of a Matrix device. With an access group it can be read by everything in that group, such as
    /// a notification extension.
    public init(userId: String, deviceId: String, accessGroup: String? = nil, keychain: any Keychain) {
        // Old user ids may have a slash in them, so the length says where the user id ends.
        let account = "\(userId.utf8.count):\(userId)/\(deviceId)"
        item = KeychainItem(service: "org.matrixmls.store-key", account: account, accessGroup: accessGroup)
        self.keychain = keychain
    }

    /// The key, made and kept on the first call: what an app opens its machine with.
    ///
    /// Two processes may call this at once: both get the key of the one that was first. A key that is there but
    /// cannot be read is never replaced, as that would lock the store for good.
    public func readOrCreate() throws -> StoreKey {
        if let key = try keychain.read(item) { return try Self.checked(key) }
        do {
            let key = Self.random()
            try keychain.add(key, as: item)
            return .raw(key: key)
        } catch KeychainError.duplicate {
            return try read()
        }
    }

    /// The key that is there, or `KeychainError.missing`: what an extension opens its reader with. An extension
    /// that finds no key has no store to read either.
    public func read() throws -> StoreKey {
        guard let key = try keychain.read(item) else { throw KeychainError.missing }
        return try Self.checked(key)
    }

    /// Forgets the key, for when the device logs out. Delete the store's directory as well: nothing opens it any more.
    public func delete() throws {
        try keychain.delete(item)
    }

    private static func checked(_ key: Data) throws -> StoreKey {
        guard key.count == length else {
            throw KeychainError.malformed(reason: "it has \(key.count) bytes, not \(length)")
        }
        return .raw(key: key)
    }

    /// The system's generator is a cryptographic one, on Apple platforms and on Linux.
    private static func random() -> Data {
        var generator = SystemRandomNumberGenerator()
        return Data((0..<length).map { _ in UInt8.random(in: .min ... .max, using: &generator) })
    }
}
