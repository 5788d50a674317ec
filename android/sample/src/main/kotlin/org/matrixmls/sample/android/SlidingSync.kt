/**
 * The app's sync: two sliding sync connections (MSC4186), as Element X has them. `room-list` tells of the rooms, `encryption`
 * of to-device events, devices and keys. The machine gets each response before its position is kept.
 */
package org.matrixmls.sample.android

import java.io.File
import java.io.IOException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.withContext
import org.json.JSONArray
import org.json.JSONObject
import org.matrixmls.MlsMachine
import org.matrixmls.SyncSummary
import org.matrixmls.syncChangesFromSlidingSync

/** A response of the homeserver, and what the machine made of it. */
class Synced(val response: JSONObject, val summary: SyncSummary)

/** The two connections of one device. Each is used by one coroutine at a time. */
class SlidingSync(private val homeserver: Homeserver, private val machine: MlsMachine, directory: File) {
    /** Where the room list goes on. It is kept when the app is closed: the rooms do not come again. */
    private val roomList = Position(File(directory, "room_list.pos"))

    /** Up to where to-device events were taken in. The homeserver deletes them by this, so it is kept as well. */
    private val toDevice = Position(File(directory, "to_device.since"))

    /** Where the encryption connection goes on. It begins anew at each start; the machine then asks for device lists. */
    private var encryption: String? = null

    /** How many rooms are asked for: more as soon as there are more. */
    private var window = 20

    /** What is new in the rooms; waits for news for this long. */
    suspend fun rooms(timeoutMs: Int): Synced {
        val list = JSONObject().put("ranges", JSONArray("[[0,${window - 1}]]"))
            .put("timeline_limit", TIMELINE_LIMIT).put("required_state", JSONArray(REQUIRED_STATE))
        val request = JSONObject().put("conn_id", "room-list").put("lists", JSONObject().put("all", list))
        val synced = ask(request, roomList.read(), timeoutMs)
        window = maxOf(window, synced.response.getJSONObject("lists").getJSONObject("all").getInt("count"))
        roomList.write(synced.response.getString("pos"))
        return synced
    }

    /** To-device events, whose devices have changed, and how many keys are left; waits for news for this long. */
    suspend fun encryption(timeoutMs: Int): Synced {
        val events = JSONObject().put("enabled", true).putOpt("since", toDevice.read())
        val extensions = JSONObject().put("to_device", events).put("e2ee", JSONObject().put("enabled", true))
        val request = JSONObject().put("conn_id", "encryption").put("extensions", extensions)
        val synced = ask(request, encryption, timeoutMs)
        encryption = synced.response.getString("pos")
        toDevice.write(synced.response.getJSONObject("extensions").getJSONObject("to_device").getString("next_batch"))
        return synced
    }

    private suspend fun ask(request: JSONObject, pos: String?, timeoutMs: Int): Synced {
        val from = pos?.let { "&pos=${quote(it)}" } ?: ""
        val response = try {
            homeserver.call("POST", "$PATH?timeout=$timeoutMs$from", request)
        } catch (error: MatrixError) {
            if (pos == null || error.code != "M_UNKNOWN_POS") throw error
            // The homeserver has forgotten the connection: it begins anew, and the machine sees that.
            return ask(request, null, timeoutMs)
        }
        val changes = syncChangesFromSlidingSync(request.toString(), pos, response.toString())
        return Synced(response, machine.receiveSync(changes))
    }

    private companion object {
        const val PATH = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"

        /** Few: what is left out is fetched when somebody looks at the room. */
        const val TIMELINE_LIMIT = 5

        /** What the machine needs of a room's state. Members are told of as they appear; the machine asks for the others. */
        const val REQUIRED_STATE = $$"""[
            ["m.room.create", ""], ["m.room.encryption", ""], ["m.room.history_visibility", ""],
            ["m.room.power_levels", ""], ["m.room.tombstone", ""], ["org.matrix.msc2883.v1.dmls.restart", ""],
            ["m.room.member", "$LAZY"], ["m.room.member", "$ME"]
        ]"""
    }
}

/** A position in a file, which is replaced as a whole. */
private class Position(private val file: File) {
    suspend fun read(): String? = withContext(Dispatchers.IO) { if (file.exists()) file.readText() else null }

    suspend fun write(position: String) = withContext(Dispatchers.IO) {
        val draft = File(file.path + ".new")
        draft.writeText(position)
        if (!draft.renameTo(file)) throw IOException("$draft could not be renamed")
    }
}
