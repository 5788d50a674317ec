/**
 * What every [MlsException] has, whichever of its variants it is: reachable without a `when`.
 */
package org.matrixmls

/** The stable code, made for programs. */
public val MlsException.code: String
    get() = when (this) {
        is MlsException.InvalidInput -> code
        is MlsException.StoreWrongKey -> code
        is MlsException.StoreDamaged -> code
        is MlsException.StoreTooNew -> code
        is MlsException.StoreFull -> code
        is MlsException.StoreInUse -> code
        is MlsException.StoreIo -> code
        is MlsException.Closed -> code
        is MlsException.NotInGroup -> code
        is MlsException.NotReady -> code
        is MlsException.TooLarge -> code
        is MlsException.UnknownEpoch -> code
        is MlsException.Forked -> code
        is MlsException.Rejected -> code
        is MlsException.Unsupported -> code
        is MlsException.Internal -> code
    }

/** A sentence for a log; it may change from release to release. */
public val MlsException.reason: String
    get() = when (this) {
        is MlsException.InvalidInput -> reason
        is MlsException.StoreWrongKey -> reason
        is MlsException.StoreDamaged -> reason
        is MlsException.StoreTooNew -> reason
        is MlsException.StoreFull -> reason
        is MlsException.StoreInUse -> reason
        is MlsException.StoreIo -> reason
        is MlsException.Closed -> reason
        is MlsException.NotInGroup -> reason
        is MlsException.NotReady -> reason
        is MlsException.TooLarge -> reason
        is MlsException.UnknownEpoch -> reason
        is MlsException.Forked -> reason
        is MlsException.Rejected -> reason
        is MlsException.Unsupported -> reason
        is MlsException.Internal -> reason
    }

/** Whether the same call may succeed later without a change by the app. */
public val MlsException.retryable: Boolean
    get() = when (this) {
        is MlsException.InvalidInput -> retryable
        is MlsException.StoreWrongKey -> retryable
        is MlsException.StoreDamaged -> retryable
        is MlsException.StoreTooNew -> retryable
        is MlsException.StoreFull -> retryable
        is MlsException.StoreInUse -> retryable
        is MlsException.StoreIo -> retryable
        is MlsException.Closed -> retryable
        is MlsException.NotInGroup -> retryable
        is MlsException.NotReady -> retryable
        is MlsException.TooLarge -> retryable
        is MlsException.UnknownEpoch -> retryable
        is MlsException.Forked -> retryable
        is MlsException.Rejected -> retryable
        is MlsException.Unsupported -> retryable
        is MlsException.Internal -> retryable
    }
