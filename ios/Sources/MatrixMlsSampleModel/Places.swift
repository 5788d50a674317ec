/// Where the sample keeps what is on disk: one folder, which an app and its extension find alike.

import Foundation

/// The folder of the app's one account.
public struct Places: Sendable {
    /// The folder itself. On iOS it is in the app group's container, so that the notification extension sees it.
    public let folder: URL

    /// Everything is kept in this folder.
    public init(folder: URL) {
        self.folder = folder
    }

    /// The folder in the container of an app group, or nil when the app is not entitled to the group.
    public init?(appGroup: String) {
        #if canImport(Darwin)
        let container = FileManager.default.containerURL(forSecurityApplicationGroupIdentifier: appGroup)
        guard let container else { return nil }
        self.init(folder: container.appendingPathComponent("matrix", isDirectory: true))
        #else
        // There are no app groups here.
        return nil
        #endif
    }

    /// The engine's store.
    public var store: URL { folder.appendingPathComponent("mls", isDirectory: true) }

    /// Whether there is a store.
    public var hasStore: Bool { FileManager.default.fileExists(atPath: store.path) }

    private var progress: URL { folder.appendingPathComponent("sync.json") }

    /// Makes the folder, readable from the first unlock on: with a stricter class the extension could not read the
    /// store while the screen is locked.
    func make() throws {
        var attributes: [FileAttributeKey: Any]?
        #if os(iOS)
        attributes = [.protectionKey: FileProtectionType.completeUntilFirstUserAuthentication]
        #else
        attributes = nil
        #endif
        try FileManager.default.createDirectory(
            at: folder, withIntermediateDirectories: true, attributes: attributes)
    }

    /// Deletes everything.
    func clear() throws {
        if FileManager.default.fileExists(atPath: folder.path) {
            try FileManager.default.removeItem(at: folder)
        }
    }

    /// How far the last sync came; the beginning when there was none.
    func readProgress() throws -> SyncProgress {
        guard FileManager.default.fileExists(atPath: progress.path) else { return SyncProgress() }
        return try JSONDecoder().decode(SyncProgress.self, from: Data(contentsOf: progress))
    }

    /// Keeps how far a sync came, whole or not at all.
    func write(_ progress: SyncProgress) throws {
        try JSONEncoder().encode(progress).write(to: self.progress, options: .atomic)
    }
}

/// What a restart needs of the syncs before it: an incremental sync does not say again which rooms there are. No
/// message is in it; those are decrypted anew from the room's history.
struct SyncProgress: Codable, Sendable, Equatable {
    /// Where the connection `room-list` goes on. That of `encryption` is not kept: it begins anew at each start, and the
    /// engine then asks for device lists.
    var roomListPos: String?
    /// Up to where to-device events were taken in. The homeserver deletes them by this.
    var toDeviceSince: String?
    var rooms: [RoomRow] = []
}
