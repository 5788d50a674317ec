/** A room upgrade carries the group over. */
package org.matrixmls.tests

import java.nio.file.Path
import kotlin.io.path.createTempDirectory
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.matrixmls.MlsException
import org.matrixmls.MlsMachine
import org.matrixmls.RoomChanges
import org.matrixmls.RoomSettings
import org.matrixmls.Update
import org.matrixmls.drive
import org.matrixmls.prepare
import org.matrixmls.use

class UpgradeTest {
    private val directory: Path = createTempDirectory("matrix-mls-upgrade")
    private val oldRoom = "!old:example.org"
    private val newRoom = "!new:example.org"

    private fun state(type: String, content: JSONObject): String = JSONObject()
        .put("type", type).put("state_key", "").put("sender", "@alice:example.org")
        .put("event_id", "${'$'}$type-${content.hashCode()}").put("content", content).toString()

    private fun tombstone() = state("m.room.tombstone", JSONObject().put("replacement_room", newRoom))

    private fun creation() =
        state("m.room.create", JSONObject().put("predecessor", JSONObject().put("room_id", oldRoom)))

    private suspend fun MlsMachine.shown(roomId: String, vararg state: String) {
        receiveSync(sync(rooms = listOf(RoomChanges(roomId = roomId, state = state.toList(), limited = false))))
    }

    @Test
    fun `the room that replaces an MLS room has its settings and its group`() = test {
        open(directory).use { machine ->
            val room = machine.enableAlone(oldRoom, RoomSettings(rotateAfterMessages = 7u))
            val heard = Heard(machine)
            val algorithm = "org.matrix.msc2883.v1.dmls.dhkemx25519-aes128gcm-sha256-ed25519"
            val encryption = state("m.room.encryption", JSONObject().put("algorithm", algorithm))
            machine.shown(newRoom, creation(), encryption)
            machine.shown(oldRoom, tombstone())

            assertEquals(newRoom, heard.one<Update.RoomReplaced>().replacementRoomId)
            val error = fails(MlsException.RoomReplaced::class, "room_replaced") { room.prepareToSend() }
            assertEquals(newRoom, error.replacementRoomId)

            assertEquals(oldRoom, heard.one<Update.RoomUpgraded>().predecessorRoomId)
            val upgraded = machine.room(newRoom)
            assertEquals(7u, upgraded.settings().rotateAfterMessages)
            assertTrue(upgraded.upgrade().isConfirmed)
            machine.drive(accepting)
            machine.prepare(upgraded, accepting)
            assertEquals(1, upgraded.members().size)
            heard.close()
        }
    }

    @Test
    fun `a replacement without MLS is told, and nothing is sent there`() = test {
        open(directory).use { machine ->
            machine.enableAlone(oldRoom)
            val heard = Heard(machine)
            machine.shown(newRoom, creation())
            assertFalse(machine.room(newRoom).upgrade().isConfirmed)
            machine.shown(oldRoom, tombstone())
            val downgrade = heard.one<Update.UpgradeNotEncrypted>()
            assertEquals(newRoom to null, downgrade.roomId to downgrade.algorithm)
            val plain = machine.room(newRoom)
            assertTrue(plain.upgrade().isDowngrade)
            fails(MlsException.NotInGroup::class, "downgraded") { plain.prepareToSend() }
            heard.close()
        }
    }
}
