/// Time to finish what has begun when the app leaves the screen. The engine finishes a transaction in moments; this
/// is so that the system does not stop the app in the middle of one.

import UIKit

@MainActor
enum BackgroundTime {
    /// Runs something in a background task. When the system's patience ends first, the task's time is given back and
    /// the rest goes on when the app does.
    static func use<Result: Sendable>(
        _ name: String, _ action: @MainActor () async -> Result
    ) async -> Result {
        let holder = Holder()
        holder.begin(name)
        let result = await action()
        holder.end()
        return result
    }

    @MainActor
    private final class Holder {
        private var identifier = UIBackgroundTaskIdentifier.invalid

        func begin(_ name: String) {
            identifier = UIApplication.shared.beginBackgroundTask(withName: name) { [weak self] in
                // UIKit calls this on the main thread.
                MainActor.assumeIsolated { self?.end() }
            }
        }

        func end() {
            guard identifier != .invalid else { return }
            UIApplication.shared.endBackgroundTask(identifier)
            identifier = .invalid
        }
    }
}
