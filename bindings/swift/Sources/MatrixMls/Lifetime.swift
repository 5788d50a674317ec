// A machine's lifetime as a block: the store must be closed in the end, which letting go of a machine does only when
// nothing else, such as a room, holds it.

extension MlsMachine {
    /// Opens a machine, runs a block with it and shuts it down in the end, however that comes about, cancellation
    /// included: the store is closed when this returns, also when rooms of it are still held.
    public static func with<R: Sendable>(
        _ config: MachineConfig, _ body: @Sendable (MlsMachine) async throws -> R
    ) async throws -> R {
        let machine = try await MlsMachine.open(config: config)
        let result: R
        do {
            result = try await body(machine)
        } catch {
            // The block's error says more than one of closing.
            try? await machine.shutdown()
            throw error
        }
        try await machine.shutdown()
        return result
    }
}
