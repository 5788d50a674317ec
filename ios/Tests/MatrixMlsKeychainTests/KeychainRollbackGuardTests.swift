/// The count in a Keychain that lives in memory, and the machine that counts with it.

import Foundation
import MatrixMls
import MatrixMlsKeychain
import XCTest

final class KeychainRollbackGuardTests: XCTestCase, @unchecked Sendable {
    private func place(_ keychain: any Keychain, device: String = "PHONE") -> KeychainRollbackGuard {
        KeychainRollbackGuard(userId: "@alice:example.org", deviceId: device, keychain: keychain)
    }

    func testACountIsKeptAndReplaced() throws {
        let keychain = MemoryKeychain()
        XCTAssertNil(place(keychain).load())
        for count in [1, 2, 300, UInt64.max] {
            place(keychain).store(count: count)
            XCTAssertEqual(place(keychain).load(), count)
            XCTAssertNil(place(keychain, device: "TABLET").load())
        }
        try place(keychain).delete()
        XCTAssertNil(place(keychain).load())
    }

    func testItIsBesideTheStoreKey() throws {
        let keychain = MemoryKeychain()
        let key = KeychainStoreKey(userId: "@alice:example.org", deviceId: "PHONE", keychain: keychain)
        let made = try key.readOrCreate()
        place(keychain).store(count: 5)
        XCTAssertEqual(try key.read(), made)
        XCTAssertNotEqual(key.item, place(keychain).item)
    }

    func testWhatIsNoCountCountsForNothing() throws {
        let keychain = MemoryKeychain()
        try keychain.add(Data([1, 2, 3]), as: place(keychain).item)
        XCTAssertNil(place(keychain).load())
        place(keychain).store(count: 9)
        XCTAssertEqual(place(keychain).load(), 9)
        let locked = place(LockedKeychain())
        XCTAssertNil(locked.load())
        locked.store(count: 1)
        XCTAssertNil(locked.load())
    }

    func testAMachineOpensWithIt() async throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: directory) }
        let keychain = MemoryKeychain()
        for _ in 0..<2 {
            let config = MachineConfig(
                userId: "@alice:example.org", deviceId: "PHONE", storePath: directory.path,
                storeKey: .raw(key: Data(repeating: 7, count: 32)), publishing: .alone)
            try await MlsMachine.openGuarded(config: config, rollbackGuard: place(keychain)).shutdown()
        }
    }
}

/// A Keychain before the first unlock.
private struct LockedKeychain: Keychain {
    func read(_ item: KeychainItem) throws -> Data? { throw KeychainError.locked(-25308) }
    func add(_ secret: Data, as item: KeychainItem) throws { throw KeychainError.locked(-25308) }
    func replace(_ secret: Data, of item: KeychainItem) throws { throw KeychainError.locked(-25308) }
    func delete(_ item: KeychainItem) throws { throw KeychainError.locked(-25308) }
}
