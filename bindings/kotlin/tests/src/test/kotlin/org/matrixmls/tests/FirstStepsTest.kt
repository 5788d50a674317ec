/** What the README tells an app to do, in its order and its words. */
package org.matrixmls.tests

import java.nio.file.Path
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.matrixmls.MlsMachine
import org.matrixmls.RoomSettings
import org.matrixmls.SyncSummary
import org.matrixmls.Update
import org.matrixmls.drive
import org.matrixmls.encrypt
import org.matrixmls.syncChangesFromResponse
import org.matrixmls.use

class FirstStepsTest {
    @TempDir
    lateinit var directory: Path

    @Test
    fun `the steps of the README`() = test {
        val (transport, roomId) = accepting to "!room:example.org"
        val (since, syncBody) = null to """{"next_batch":"s1","rooms":{"join":{}}}"""
        MlsMachine.open(config(directory)).use { machine ->
            val heard = Heard(machine)

            machine.drive(transport)
            val summary = machine.receiveSync(syncChangesFromResponse(syncBody, since))
            assertEquals(SyncSummary(emptyList(), emptyList()), summary)

            val room = machine.room(roomId)
            room.enable(RoomSettings())
            val content = machine.encrypt(room, "m.room.message", """{"msgtype":"m.text","body":"Hello"}""", transport)
            assertTrue(content.contains("ciphertext"), content)
            assertEquals(Update.Joined(roomId, 0u), heard.one<Update.Joined>())
            heard.close()
        }
    }
}
