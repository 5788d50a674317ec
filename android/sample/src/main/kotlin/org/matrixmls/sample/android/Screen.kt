/**
 * The sample's views: three pages in one column, each made when it is shown, and above them what is to be decided about
 * people. Every view has a tag.
 */
package org.matrixmls.sample.android

import android.graphics.Color
import android.graphics.Typeface
import android.text.InputType
import android.text.SpannableStringBuilder
import android.text.Spanned
import android.text.style.ForegroundColorSpan
import android.text.style.StyleSpan
import android.view.View
import android.widget.Button
import android.widget.CheckBox
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.ScrollView
import android.widget.TextView
import org.matrixmls.VerificationState

/** What the user decides about people. */
class TrustActions(
    val accept: (ChangedIdentity) -> Unit,
    val withdraw: (ChangedIdentity) -> Unit,
    val verify: (String) -> Unit,
    val answer: (Comparison) -> Unit,
    val match: (Comparison) -> Unit,
    val mismatch: (Comparison) -> Unit,
    val leave: (Comparison) -> Unit,
)

/** What the user does about the recovery key. */
class RecoveryActions(val setUp: () -> Unit, val written: () -> Unit, val recover: (String) -> Unit)

class Screen(val root: LinearLayout) {
    private val status = TextView(root.context).apply { tag = "status" }
    private val page = LinearLayout(root.context).apply { orientation = LinearLayout.VERTICAL }
    private val trust = LinearLayout(root.context).apply { orientation = LinearLayout.VERTICAL }
    private var shown = ""
    private var decisions: Any? = null
    private var recovery: RecoveryShown? = null

    init {
        val padding = (16 * root.resources.displayMetrics.density).toInt()
        root.setPadding(padding, padding, padding, padding)
        root.addView(status)
        root.addView(trust)
        root.addView(page, LinearLayout.LayoutParams(LinearLayout.LayoutParams.MATCH_PARENT, 0, 1f))
        say("")
    }

    /** Shows a sentence above the page. */
    fun say(sentence: String) {
        status.text = sentence
        status.visible(sentence.isNotEmpty())
    }

    fun logIn(action: (Session.Login) -> Unit) = page("log-in") {
        val url = field("url", "Homeserver", InputType.TYPE_TEXT_VARIATION_URI)
        val user = field("user", "User name", InputType.TYPE_TEXT_VARIATION_NORMAL)
        val password = field("password", "Password", InputType.TYPE_TEXT_VARIATION_PASSWORD)
        val new = add("new", CheckBox(root.context).apply { text = "New account" })
        button("enter", "Log in") {
            action(Session.Login(url.text.toString(), user.text.toString(), password.text.toString(), new.isChecked))
        }
    }

    /** Shows who has another identity than before, and the comparison under way. */
    fun trust(changed: List<ChangedIdentity>, comparison: Comparison?, actions: TrustActions) {
        if (decisions == changed to comparison) return
        decisions = changed to comparison
        trust.removeAllViews()
        for (one in changed) {
            val known = if (one.wasVerified) "You verified ${one.userId}, but" else "${one.userId} is known to you, but"
            sentence(trust, "changed", "$known their identity is another now.")
            choice(trust, "accept", "It is them") { actions.accept(one) }
            if (one.wasVerified) choice(trust, "withdraw", "Withdraw verification") { actions.withdraw(one) }
            choice(trust, "verify-anew", "Verify") { actions.verify(one.userId) }
        }
        if (comparison != null) compare(comparison, actions)
    }

    private fun compare(comparison: Comparison, actions: TrustActions) {
        val (user, state) = comparison.userId to comparison.state
        sentence(trust, "comparison", when (state) {
            is VerificationState.Requested -> if (comparison.isIncoming) "$user wants to compare emojis" else "Asking $user"
            is VerificationState.Ready, is VerificationState.Started -> "Agreeing with $user"
            is VerificationState.Comparing -> "Does $user see the same?\n" + shownBy(state)
            is VerificationState.Confirmed -> "Waiting for $user"
            is VerificationState.Done -> "You have verified $user"
            is VerificationState.Cancelled -> "Not verified: ${state.reason} (${state.code})"
        })
        if (state is VerificationState.Requested && comparison.isIncoming) {
            choice(trust, "answer", "Compare") { actions.answer(comparison) }
        }
        if (state is VerificationState.Comparing) {
            choice(trust, "match", "They match") { actions.match(comparison) }
            choice(trust, "mismatch", "They differ") { actions.mismatch(comparison) }
        }
        choice(trust, "leave", if (comparison.isOver) "Close" else "Cancel") { actions.leave(comparison) }
    }

    /** Emojis with their names; numbers where the other side has no emojis. */
    private fun shownBy(state: VerificationState.Comparing): String =
        if (state.emojis.isEmpty()) state.decimals.joinToString(" ")
        else state.emojis.joinToString("\n") { "${it.symbol} ${it.description}" }

    private fun sentence(within: LinearLayout, name: String, words: String) = within.addView(TextView(root.context).apply {
        tag = name
        text = words
    })

    private fun choice(within: LinearLayout, name: String, label: String, action: () -> Unit) =
        within.addView(Button(root.context).apply {
            tag = name
            text = label
            setOnClickListener { action() }
        })

    fun rooms(rooms: List<String>, select: (String) -> Unit, create: (List<String>) -> Unit, verify: (String) -> Unit) {
        page("rooms") {
            val scroll = ScrollView(root.context)
            val list = LinearLayout(root.context).apply { orientation = LinearLayout.VERTICAL }
            scroll.addView(list.apply { tag = "room-list" })
            page.addView(scroll, LinearLayout.LayoutParams(LinearLayout.LayoutParams.MATCH_PARENT, 0, 1f))
            val invite = field("invite", "Invite, such as @bob:example.org", InputType.TYPE_TEXT_VARIATION_URI)
            button("create", "New MLS room") {
                create(invite.text.split(' ').filter { it.isNotEmpty() })
            }
            button("verify", "Verify by emojis") { verify(invite.text.trim().toString()) }
            add("recovery-panel", LinearLayout(root.context).apply { orientation = LinearLayout.VERTICAL })
            recovery = null
        }
        val list = page.findViewWithTag<LinearLayout>("room-list")
        list.removeAllViews()
        for (room in rooms) {
            list.addView(Button(root.context).apply {
                tag = room
                text = room
                isAllCaps = false
                setOnClickListener { select(room) }
            })
        }
    }

    /** Shows how the recovery key stands, below the rooms. */
    fun recovery(shown: RecoveryShown?, actions: RecoveryActions) {
        if (shown == null || shown == recovery) return
        // What is being typed stays where only the news are others.
        val typed = page.findViewWithTag<EditText>("recovery-key")?.text ?: ""
        recovery = shown
        val panel = page.findViewWithTag<LinearLayout>("recovery-panel")
        panel.removeAllViews()
        sentence(panel, "recovery", shown.sentence)
        shown.news?.let { sentence(panel, "recovery-news", it) }
        if (shown.newKey != null) {
            sentence(panel, "new-key", shown.newKey)
            choice(panel, "written", "I have written it down") { actions.written() }
        }
        if (shown.canSetUp) choice(panel, "set-up", "Make a recovery key") { actions.setUp() }
        if (shown.canRecover) {
            val key = EditText(root.context).apply {
                tag = "recovery-key"
                hint = "Recovery key"
                inputType = InputType.TYPE_CLASS_TEXT or InputType.TYPE_TEXT_FLAG_NO_SUGGESTIONS
                setText(typed)
            }
            panel.addView(key)
            choice(panel, "recover", "Recover") { actions.recover(key.text.toString()) }
        }
    }

    fun timeline(lines: List<Line>, send: (String) -> Unit) {
        page("timeline") {
            val scroll = ScrollView(root.context)
            val words = TextView(root.context).apply { tag = "lines" }
            // Grey is for shields.
            words.setTextColor(Color.BLACK)
            scroll.addView(words)
            page.addView(scroll, LinearLayout.LayoutParams(LinearLayout.LayoutParams.MATCH_PARENT, 0, 1f))
            val text = field("text", "Message", InputType.TYPE_TEXT_FLAG_CAP_SENTENCES)
            button("send", "Send") {
                send(text.text.toString())
                text.setText("")
            }
        }
        page.findViewWithTag<TextView>("lines").text = text(lines)
    }

    /** The lines, each with its shield's sentence in the shield's colour. What cannot be read is in italics. */
    private fun text(lines: List<Line>): CharSequence {
        val text = SpannableStringBuilder()
        for (line in lines) {
            if (text.isNotEmpty()) text.append("\n")
            text.append("${line.sender}: ")
            if (line.isReadable) text.append(line.text)
            else text.append(line.text, StyleSpan(Typeface.ITALIC), Spanned.SPAN_EXCLUSIVE_EXCLUSIVE)
            val badge = line.badge ?: continue
            val colour = ForegroundColorSpan(if (badge.isRed) Color.RED else Color.GRAY)
            text.append("\n").append(badge.why, colour, Spanned.SPAN_EXCLUSIVE_EXCLUSIVE)
        }
        return text
    }

    /** Makes a page unless it is the one that is shown: what is being typed stays. */
    private fun page(name: String, make: () -> Unit) {
        if (shown == name) return
        shown = name
        page.removeAllViews()
        make()
    }

    private fun field(name: String, hint: String, variation: Int): EditText =
        add(name, EditText(root.context).apply {
            this.hint = hint
            inputType = InputType.TYPE_CLASS_TEXT or variation
        })

    private fun button(name: String, label: String, action: () -> Unit) {
        add(name, Button(root.context).apply {
            text = label
            setOnClickListener { action() }
        })
    }

    private fun <V : View> add(name: String, view: V): V {
        view.tag = name
        page.addView(view)
        return view
    }
}
