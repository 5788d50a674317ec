/** What every [MlsException] says, whichever of its variants it is, as properties. */
package org.matrixmls

/** The stable code, made for programs. */
public val MlsException.code: String
    get() = details().code

/** A sentence for a log; it may change from release to release. */
public val MlsException.reason: String
    get() = details().reason

/** Whether the same call may succeed later without a change by the app. */
public val MlsException.retryable: Boolean
    get() = details().retryable

/** What a call on a handle throws that was closed; the generated code calls it. */
internal fun closedHandle(type: String): MlsException = MlsException.Closed(
    ErrorDetails("closed", "this $type was closed: open the machine again, and get new handles", retryable = false),
)
