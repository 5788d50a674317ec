/// The Keychain of iOS and macOS. Items are generic passwords that stay on this device and out of its backups,
/// readable from the first unlock on, so that a notification extension can read them while the screen is locked.

#if canImport(Security)
import Foundation
import Security

/// The system's Keychain.
public struct AppleKeychain: Keychain {
    /// The system's Keychain.
    public init() {}

    public func read(_ item: KeychainItem) throws -> Data? {
        var query = Self.query(item)
        query[kSecReturnData as String] = true
        query[kSecMatchLimit as String] = kSecMatchLimitOne
        var result: CFTypeRef?
        switch SecItemCopyMatching(query as CFDictionary, &result) {
        case errSecSuccess:
            guard let secret = result as? Data else {
                throw KeychainError.malformed(reason: "it is no data")
            }
            return secret
        case errSecItemNotFound:
            return nil
        case let status:
            throw KeychainError(status: status)
        }
    }

    public func add(_ secret: Data, as item: KeychainItem) throws {
        var attributes = Self.query(item)
        attributes[kSecAttrAccessible as String] = kSecAttrAccessibleAfterFirstUnlockThisDeviceOnly
        attributes[kSecValueData as String] = secret
        try Self.check(SecItemAdd(attributes as CFDictionary, nil))
    }

    public func replace(_ secret: Data, of item: KeychainItem) throws {
        let changes: [String: Any] = [kSecValueData as String: secret]
        try Self.check(SecItemUpdate(Self.query(item) as CFDictionary, changes as CFDictionary))
    }

    public func delete(_ item: KeychainItem) throws {
        let status = SecItemDelete(Self.query(item) as CFDictionary)
        if status != errSecItemNotFound { try Self.check(status) }
    }

    private static func query(_ item: KeychainItem) -> [String: Any] {
        var query: [String: Any] = [
            kSecClass as String: kSecClassGenericPassword,
            kSecAttrService as String: item.service,
            kSecAttrAccount as String: item.account,
            // macOS has an older Keychain too, which knows neither access groups nor accessibility.
            kSecUseDataProtectionKeychain as String: true,
        ]
        if let group = item.accessGroup { query[kSecAttrAccessGroup as String] = group }
        return query
    }

    private static func check(_ status: OSStatus) throws {
        if status != errSecSuccess { throw KeychainError(status: status) }
    }
}

extension KeychainStoreKey {
    /// The store key of a Matrix device, in the system's Keychain.
    public init(userId: String, deviceId: String, accessGroup: String? = nil) {
        self.init(userId: userId, deviceId: deviceId, accessGroup: accessGroup, keychain: AppleKeychain())
    }
}
#endif
