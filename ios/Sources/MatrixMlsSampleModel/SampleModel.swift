/// The sample app without its screens: who is logged in, and when the loop with the homeserver runs. What it does
/// in the loop is in SampleModel+Sync.swift, what the user does in SampleModel+Rooms.swift.
///
/// Nothing here throws: what goes wrong with something the user did is `state.problem`, and the network's
/// troubles are `state.connection`.

import Foundation
import MatrixMls
import MatrixMlsKeychain

#if canImport(Combine)
import Combine
#endif

/// The sample app's model.
@MainActor
public final class SampleModel: Observed {
    /// What to show.
    #if canImport(Combine)
    @Published
    #endif
    public internal(set) var state = SampleState() {
        didSet { if state != oldValue { streams.tell(state) } }
    }

    /// How many events of a room one sync may bring. Few: what is left out is fetched when somebody looks at the room.
    var timelineLimit = 5
    /// How long the homeserver may keep a sync waiting for news.
    var syncTimeoutMs = 30_000

    let places: Places
    var progress = SyncProgress()
    /// Where the sync connection `encryption` goes on.
    var encryptionPos: String?
    /// How many rooms the sync connection `room-list` asks for: more as soon as there are more.
    var roomWindow = 20
    /// Comparisons that were over and that the user has closed.
    var closedComparisons: Set<String> = []
    private(set) var account: Account?
    private let vault: Vault
    private let streams = StateStreams()
    private var loop: Task<Void, Never>?
    private var ending: Task<Void, Never>?
    private var isStarting = false
    private var isSuspended = false
    private var wakeSender: AsyncStream<Void>.Continuation?

    /// A model that keeps its files and its secrets in these places.
    public init(places: Places, vault: Vault) {
        self.places = places
        self.vault = vault
    }

    /// Every state from now on, beginning with the present one.
    public func states() -> AsyncStream<SampleState> {
        streams.listen(from: state)
    }

    /// Continues where the app was when it last ran. Call it when the app starts; once it has, this does nothing.
    public func start() async {
        // A window may come up twice before the store is open, which only one machine may have.
        guard state.phase == .starting, !isStarting else { return }
        isStarting = true
        defer { isStarting = false }
        await attempt {
            guard let session = try self.vault.session() else { return self.state.phase = .loggedOut }
            guard self.places.hasStore else {
                // The Keychain outlives the app, its files do not. A new store cannot speak for the old device.
                try self.vault.clear()
                return self.state.phase = .loggedOut
            }
            try await self.run(session)
        }
        // A Keychain that is still locked is no reason to log in anew: `start` may be called again.
    }

    /// Deletes everything here, for when the store cannot be opened. The homeserver still knows the device.
    public func startOver() async {
        await close()
        await clear()
    }

    /// Logs in as a new device.
    public func logIn(homeserver: String, user: String, password: String) async {
        await enter { try await Homeserver.logIn(homeserver, user: user, password: password) }
    }

    /// Makes an account, with an identity by which others know which devices are the user's, and logs in, where the
    /// homeserver lets anybody.
    public func register(homeserver: String, user: String, password: String) async {
        await enter { try await Homeserver.register(homeserver, user: user, password: password) }
        guard let account else { return }
        await attempt {
            try await account.machine.identity().create()
            self.wake()
        }
    }

    private func enter(_ getSession: @Sendable () async throws -> Session) async {
        guard state.phase == .loggedOut else { return }
        state.phase = .loggingIn
        await attempt {
            let session = try await getSession()
            // What is left of another device would not open with this one's key.
            try self.places.clear()
            try self.vault.keep(session)
            try await self.run(session)
        }
        if state.phase != .running { state.phase = .loggedOut }
    }

    /// Logs out: the homeserver forgets the device, and everything of it here is deleted, also when the homeserver
    /// cannot be told.
    public func logOut() async {
        guard let account else { return }
        await close()
        await attempt { try await account.homeserver.logOut() }
        let problem = state.problem
        await clear()
        state.problem = state.problem ?? problem
    }

    /// Goes back to the login, as the homeserver does not know this device any more.
    func loggedOutByHomeserver() async {
        await close()
        await clear()
        state.problem = state.problem ?? "The homeserver logged this device out"
    }

    /// Ends the loop with the homeserver and waits for what the engine is doing. Call it when the app goes to the
    /// background, in a background task, so that the system does not stop the app inside a transaction.
    public func suspend() async {
        isSuspended = true
        await endLoop()
    }

    /// Starts the loop with the homeserver again.
    public func resume() {
        isSuspended = false
        beginLoop()
    }

    private func endLoop() async {
        wakeSender = nil
        if let loop {
            loop.cancel()
            ending = loop
            self.loop = nil
        }
        await ending?.value
        if loop == nil { state.connection = .idle }
    }

    private func beginLoop() {
        guard let account, loop == nil, !isSuspended else { return }
        let (wakes, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        wakeSender = wake
        wake.yield()
        let previous = ending
        loop = Task {
            // Two loops at once would each write how far they came.
            await previous?.value
            async let sending: Void = self.sendLoop(account, wakes)
            async let watching: Void = self.watchLoop(account)
            await self.syncLoop(account)
            await sending
            await watching
        }
    }

    /// Ends the loop and closes the store. The login stays: another model may `start` from the same places.
    public func close() async {
        await endLoop()
        guard let account else { return }
        self.account = nil
        state = SampleState()
        await attempt { try await account.machine.shutdown() }
    }

    /// Has the loop send what the engine has to send, soon.
    func wake() {
        wakeSender?.yield()
    }

    private func clear() async {
        await attempt {
            try self.places.clear()
            try self.vault.clear()
            self.progress = SyncProgress()
            self.state.phase = .loggedOut
        }
    }

    /// Does something the user wanted, and keeps what went wrong with it.
    func attempt(_ action: @MainActor () async throws -> Void) async {
        state.problem = nil
        do {
            try await action()
        } catch is CancellationError {
            // Whoever cancelled knows.
        } catch {
            state.problem = describe(error)
        }
    }

    private func run(_ session: Session) async throws {
        progress = try places.readProgress()
        encryptionPos = nil
        let account = try await Account.open(session, in: places, vault)
        self.account = account
        state.userId = session.userId
        state.deviceId = session.deviceId
        state.rooms = progress.rooms
        state.phase = .running
        beginLoop()
    }
}

/// A sentence for the screen.
func describe(_ error: any Error) -> String {
    switch error {
    case let error as MlsError: return "\(error.reason) (\(error.code))"
    case let error as any LocalizedError: return error.errorDescription ?? "\(type(of: error))"
    default: return "The homeserver cannot be reached (\(type(of: error)))"
    }
}
