/// How views watch the model: as an `ObservableObject` where there is Combine, and everywhere as a stream.

#if canImport(Combine)
import Combine

/// What SwiftUI watches.
public typealias Observed = ObservableObject
#else
/// What SwiftUI would watch.
public protocol Observed: AnyObject {}
#endif

/// Hands each new state to everybody who listens. Who is slow gets the newest only.
@MainActor
final class StateStreams {
    private var listeners: [Int: AsyncStream<SampleState>.Continuation] = [:]
    private var next = 0

    func listen(from current: SampleState) -> AsyncStream<SampleState> {
        let (stream, listener) = AsyncStream.makeStream(
            of: SampleState.self, bufferingPolicy: .bufferingNewest(1))
        let id = next
        next += 1
        listeners[id] = listener
        listener.yield(current)
        listener.onTermination = { [weak self] _ in
            Task { @MainActor in self?.listeners[id] = nil }
        }
        return stream
    }

    func tell(_ state: SampleState) {
        for listener in listeners.values { listener.yield(state) }
    }
}
