/** The report for a rageshake. */
package org.matrixmls.tests

import java.nio.file.Path
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.matrixmls.MlsMachine
import org.matrixmls.MlsReader
import org.matrixmls.RoomSettings
import org.matrixmls.drive
import org.matrixmls.encrypt
import org.matrixmls.use

class DiagnosticsTest {
    @TempDir
    lateinit var directory: Path

    @Test
    fun `a report names what there is, and no id and no text`() = test {
        val roomId = "!room:example.org"
        MlsMachine.open(config(directory)).use { machine ->
            machine.drive(accepting)
            val room = machine.room(roomId)
            room.enable(RoomSettings())
            machine.encrypt(room, "m.room.message", """{"msgtype":"m.text","body":"a secret"}""", accepting)

            val report = machine.diagnostics()
            val beside = MlsReader.open(config(directory).storePath, config(directory).storeKey).use { it.diagnostics() }
            for (json in listOf(report.json, beside.json).map(::JSONObject)) {
                val rooms = json.getJSONObject("rooms").getJSONArray("list")
                assertEquals(1, rooms.length())
                assertEquals("member", rooms.getJSONObject(0).getString("standing"))
            }
            val calls = JSONObject(report.json).getJSONObject("calls").getJSONObject("times")
            assertEquals(1, calls.getJSONObject("encrypt").getInt("count"))
            assertTrue(JSONObject(beside.json).isNull("calls"))
            for (text in listOf(report.text, report.json, beside.text, beside.json)) {
                for (secret in listOf(roomId, "example.org", "a secret", machine.userId(), machine.deviceId())) {
                    assertFalse(text.contains(secret), "$secret is in $text")
                }
            }
        }
    }
}
