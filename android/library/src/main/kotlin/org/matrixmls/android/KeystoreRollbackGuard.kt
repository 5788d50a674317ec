/**
 * The count that tells an older copy of the store, on Android: in a file of its own that no backup takes
 * along, sealed by a key of the Android Keystore.
 */
package org.matrixmls.android

import android.content.Context
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.nio.ByteBuffer
import java.security.GeneralSecurityException
import java.security.ProviderException
import org.matrixmls.RollbackGuard

/**
 * Keeps the count of one device's store, sealed. Open the machine with it (`MlsMachine.openGuarded`), each time
 * with the same file.
 *
 * It tells a store that was brought back by a backup, by a tool, or by hand. Whoever can bring back all of the
 * app's files brings back this one as well.
 */
public class KeystoreRollbackGuard(private val file: File, private val wrapper: KeyWrapper) : RollbackGuard {
    /** With the Android Keystore, in the app's directory that backups leave out. */
    public constructor(context: Context) :
        this(File(context.noBackupFilesDir, "matrix-mls.count"), AndroidKeystoreWrapper("matrix-mls-count"))

    /** The count, or null where there is none or it cannot be opened. */
    override fun load(): ULong? = synchronized(LOCK) {
        try {
            if (!file.exists()) return null
            val opened = wrapper.unwrap(file.readBytes())
            if (opened.size != Long.SIZE_BYTES) null else ByteBuffer.wrap(opened).getLong().toULong()
        } catch (_: IOException) {
            null
        } catch (_: GeneralSecurityException) {
            null
        } catch (_: ProviderException) {
            null
        }
    }

    /** Keeps a count. What fails is thrown, and the library logs it. */
    override fun store(count: ULong): Unit = synchronized(LOCK) {
        val bytes = ByteBuffer.allocate(Long.SIZE_BYTES).putLong(count.toLong()).array()
        // Under another name first: a file that is there is whole.
        val draft = File(file.path + ".new")
        FileOutputStream(draft).use { out ->
            out.write(wrapper.wrap(bytes))
            out.fd.sync()
        }
        if (!draft.renameTo(file)) throw IOException("$draft could not be renamed")
    }

    private companion object {
        /** Of the process: a machine that is opened reads what another has just written. */
        val LOCK = Any()
    }
}
