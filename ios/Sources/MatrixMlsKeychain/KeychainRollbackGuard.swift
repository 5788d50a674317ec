/// The count that tells an older copy of the store, in the Keychain: a backup brings back files, and this item stays
/// what it is.

import Foundation
import MatrixMls

/// Keeps the count of one device's store. Open the machine with it (`MlsMachine.openGuarded`), each time with the same
/// user, device and access group.
public final class KeychainRollbackGuard: RollbackGuard, Sendable {
    /// How many bytes a count has.
    static let length = 8

    /// The item that holds the count.
    public let item: KeychainItem
    private let keychain: any Keychain

    /// The count of a Matrix device's store.
    public init(userId: String, deviceId: String, accessGroup: String? = nil, keychain: any Keychain) {
        // Old user ids may have a slash in them, so the length says where the user id ends.
        let account = "\(userId.utf8.count):\(userId)/\(deviceId)"
        item = KeychainItem(service: "org.matrixmls.store-count", account: account, accessGroup: accessGroup)
        self.keychain = keychain
    }

    /// The count, or nil where there is none or it cannot be read now.
    public func load() -> UInt64? {
        guard let bytes = try? keychain.read(item), bytes.count == Self.length else { return nil }
        return bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// Keeps a count. Where the Keychain refuses, the count stays what it was: it then tells less, and never too much.
    public func store(count: UInt64) {
        let bytes = Data((0..<Self.length).map { UInt8(truncatingIfNeeded: count >> (8 * (Self.length - 1 - $0))) })
        do {
            try keychain.replace(bytes, of: item)
        } catch KeychainError.missing {
            try? keychain.add(bytes, as: item)
        } catch {}
    }

    /// Forgets the count, for when the device logs out.
    public func delete() throws {
        try keychain.delete(item)
    }
}

#if canImport(Security)
extension KeychainRollbackGuard {
    /// The count of a Matrix device's store, in the system's Keychain.
    public convenience init(userId: String, deviceId: String, accessGroup: String? = nil) {
        self.init(userId: userId, deviceId: deviceId, accessGroup: accessGroup, keychain: AppleKeychain())
    }
}
#endif
