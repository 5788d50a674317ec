/**
 * What a user does for the day on which the phone is lost, and on the new one: a recovery key to write down, the same
 * typed in again, and signing the lost phone out.
 */
package org.matrixmls.sample

import org.json.JSONArray
import org.json.JSONObject
import org.matrixmls.RecoveryKey
import org.matrixmls.Restoring
import org.matrixmls.createBackup
import org.matrixmls.drive
import org.matrixmls.restoreBackup

private const val DELETE_DEVICES = "/_matrix/client/v3/delete_devices"

/** Makes a key backup of all that this device can read, and of what comes. Returns the key's text, to be written down. */
suspend fun MatrixClient.backUp(): String = machine.createBackup(transport).use { key ->
    // The key is good from here on. What is to be backed up goes in with the next requests.
    machine.drive(transport)
    key.text()
}

/**
 * Goes on with the account's key backup, whose key the user has typed, and brings back all that is in it, telling how
 * many of how many sessions were taken. Fails with a code for the mistake when the key is mistyped.
 */
suspend fun MatrixClient.restore(
    typed: String,
    onProgress: (done: ULong, total: ULong) -> Unit = { _, _ -> },
): Restoring.Finished = RecoveryKey.parse(typed).use { key ->
    machine.restoreBackup(transport, key) { done, total -> onProgress(done, total) }
}

/** Signs another device of this user out; groups leave it out from the next message on. */
suspend fun MatrixClient.signOut(deviceId: String, password: String) {
    val request = JSONObject().put("devices", JSONArray(listOf(deviceId)))
    suspend fun ask() = transport.exchange("POST", DELETE_DEVICES, request.toString().toByteArray())
    var answer = ask()
    if (answer.status == 401) {
        // Now it wants to know who asks, in a session that it names.
        val session = JSONObject(answer.body.decodeToString()).getString("session")
        val user = JSONObject().put("type", "m.id.user").put("user", userId)
        request.put("auth", JSONObject().put("type", "m.login.password").put("session", session)
            .put("identifier", user).put("password", password))
        answer = ask()
    }
    if (answer.status != 200) throw MatrixError("POST $DELETE_DEVICES", answer.status, answer.body.decodeToString())
}
