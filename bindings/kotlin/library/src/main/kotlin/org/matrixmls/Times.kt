/** Times as [Duration]s, where the generated code has numbers of milliseconds. */
package org.matrixmls

import kotlin.time.Duration
import kotlin.time.Duration.Companion.milliseconds

/** [RoomSettings.rotateAfterMs] as a duration. */
public val RoomSettings.rotateAfter: Duration get() = rotateAfterMs.asDuration()

/** [RoomSettings.keptForMs] as a duration. */
public val RoomSettings.keptFor: Duration get() = keptForMs.asDuration()

/** [RoomSettings.keepHistoryMs] as a duration; null is for ever. */
public val RoomSettings.keepHistory: Duration? get() = keepHistoryMs?.asDuration()

/** These settings with another time until this device's keys are renewed. */
public fun RoomSettings.rotatedAfter(time: Duration): RoomSettings = copy(rotateAfterMs = time.asMilliseconds())

/** These settings with another time for which epochs are kept that can take commits. */
public fun RoomSettings.keptFor(time: Duration): RoomSettings = copy(keptForMs = time.asMilliseconds())

/** These settings with another time for which history can be read; null is for ever. */
public fun RoomSettings.withHistoryFor(time: Duration?): RoomSettings = copy(keepHistoryMs = time?.asMilliseconds())

/** [RequestOutcome.RetryLater.afterMs] as a duration. */
public val RequestOutcome.RetryLater.retryAfter: Duration get() = afterMs.asDuration()

/** [SendPlan.Waiting.retryAfterMs] as a duration. */
public val SendPlan.Waiting.retryAfter: Duration? get() = retryAfterMs?.asDuration()

/** [PendingRequests.retryAfterMs] as a duration. */
public val PendingRequests.retryAfter: Duration? get() = retryAfterMs?.asDuration()

/** [MlsMachine.waitForChange] for a duration. */
public suspend fun MlsMachine.waitForChange(longest: Duration): Unit = waitForChange(longest.asMilliseconds())

/** What does not fit counts as the longest that does. */
private fun ULong.asDuration(): Duration = coerceAtMost(Long.MAX_VALUE.toULong()).toLong().milliseconds

private fun Duration.asMilliseconds(): ULong = inWholeMilliseconds.coerceAtLeast(0).toULong()
