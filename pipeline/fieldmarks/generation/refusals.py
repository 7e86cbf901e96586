"""Whether an answer is a refusal: in the words in which models refuse, in many languages. Pure."""

import re
from typing import Final

_CANNOT: Final = (
    r"(?:can['’]?t|can ?not|could not|couldn['’]t|won['’]t|will not|would not|wouldn['’]t|do not|don['’]t"
    r"|am unable|am not able|['’]m unable|['’]m not able|must|have to|need to|decline|refuse"
    r"|prefer not|['’]d rather not)"
)
# Each is looked for at the beginning of an answer. A descriptor may begin like one ("unable to fly", "sorry
# expression"), so the words that a descriptor can hold need those that a refusal goes on with.
_BEGINNINGS: Final = (
    # English
    r"(?:oh,? )?i(?:['’]?m| am) (?:(?:very|so|really|truly|terribly) )?(?:sorry|afraid)\b",
    r"(?:my )?(?:sincere )?apologies\b",
    r"(?:i|we) (?:sincerely |must |do )?apologi[sz]e\b",
    r"we(?:['’]re| are) sorry\b",
    r"sorry(?:[,.!;:—–]|\s(?:but|i|for|that|about|to|we|this|no)\b)",
    rf"(?:i|we) ?{_CANNOT}\b",
    r"(?:i|we)(?:['’]m|['’]re| am| are) (?:unable|not able|not comfortable|not allowed"
    r"|not permitted|not going|programmed)\b",
    r"as an? (?:ai|a\.i\.|large language|language|artificial|virtual|responsible)\b",
    r"(?:this|that|your|the) (?:request|question|content|prompt|topic) (?:violates|cannot|can['’]t"
    r"|is against|goes against|may violate)\b",
    r"unable to (?:help|assist|comply|provide|fulfil|answer|describe|identify|process|complete)",
    r"(?:it is|it['’]s|that is|that['’]s) (?:not possible for me|against|not something i)\b",
    r"(?:no,? )?i (?:won['’]t|will not)\b",
    r"it(?:['’]s| is| would)(?: not| ?n['’]t| be)? (?:not )?(?:appropriate|ethical|okay|possible for me|in"
    r"appropriate|unethical) (?:for me )?to\b",
    r"(?:my|our|openai['’]?s|the) (?:guidelines|policy|policies|instructions|programming|training)"
    r" (?:prevent|do(?:es)?"
    r" not|don['’]t|prohibits?|forbids?)",
    r"(?:this|that) (?:is not|isn['’]t) something (?:i|we)\b",
    # German
    r"(?:es )?tut mir (?:sehr |wirklich )?leid\b",
    r"(?:ich )?entschuldig(?:ung|e|en sie)\b",
    r"ich (?:kann|darf|möchte|werde) (?:\w+ ){0,5}(?:nicht|keine?n?)\b",
    r"leider (?:kann|darf|ist|bin) ",
    r"als (?:ki|sprachmodell|künstliche)",
    # French
    r"(?:je suis |nous sommes )?(?:vraiment |sincèrement )?désolée?s?\b",
    r"je (?:ne (?:peux|suis|puis)|m['’]excuse|regrette)|je vous prie de m['’]excuser"
    r"|malheureusement,? je|en tant qu['’]",
    # Spanish, Portuguese, Italian
    r"lo (?:siento|lamento)\b|no (?:puedo|me es posible)\b|lamentablemente,? no|como (?:modelo"
    r"|una? (?:ia|inteligencia|modelo))\b",
    r"(?:me )?desculpe?\b|sinto muito|lamento(?:,| (?:mas|pero|informar|no|não))"
    r"|(?:eu )?não (?:posso|consigo)|infelizmente,? (?:eu )?não",
    r"(?:mi )?(?:dispiace|scuso)\b|non (?:posso|sono in grado)\b|purtroppo,? non|come (?:modello|ia"
    r"|intelligenza)\b",
    # Dutch, Polish, Russian, Turkish, Swedish
    r"het spijt me|(?:helaas )?(?:ik )?kan (?:ik )?(?:je |u |dat |hier )*niet|sorry, (?:maar )?ik",
    r"przepraszam|przykro mi|niestety,? nie mog|nie mogę\b",
    r"извините|простите|прошу прощения|к сожалению|я не могу|мне жаль|как (?:ии|языковая модель)",
    r"üzgünüm|maalesef|özür dilerim|tyvärr kan|jag kan (?:inte|tyvärr)|jag är ledsen",
    # Chinese, Japanese, Korean
    r"(?:很|非常|真的)?(?:抱歉|遗憾|遺憾|对不起|對不起|不好意思)|我(?:无法|不能|無法|没办法|不可以)|作为(?:一个|一名)?(?:ai|人工智能|语言模型)",
    r"(?:大変)?申し訳|すみません|すいません|ごめんなさい|恐れ入りますが|残念ながら|お(?:答え|手伝い)(?:でき|する(?:こと|わけ))",
    r"(?:정말 )?(?:죄송|미안|유감)|저는 .{0,20}(?:없습니다|수 없)|도와드릴 수 없|해당 요청",
    # Arabic, Hindi, Persian, Vietnamese, Indonesian
    r"(?:أنا )?(?:آسف|أعتذر|عذر|معذرة|نأسف)|لا (?:أستطيع|يمكنني)|للأسف",
    r"(?:मुझे |मैं )?(?:खेद|क्षमा|माफ)|मैं .{0,30}(?:नहीं कर सकत|असमर्थ)|متأسف|ببخشید|نمی[\u200c ]?توانم",
    r"(?:tôi )?(?:rất |thành thật )?xin lỗi|(?:saya )?(?:mohon )?maaf\b|saya tidak (?:dapat|bisa)",
)
_REFUSAL: Final = re.compile(
    r"(?:(?:thank(?:s| you)|hello|hi|hey|well|hmm|unfortunately|regrettably"
    r"|no)\b[^.!,\n]{0,60}[.!,]? (?:(?:but|however),? )?)?"
    rf"(?:{'|'.join(_BEGINNINGS)})",
    re.IGNORECASE,
)
# A list below a refusal is a list of what else the model would do, if the words above it say so.
_ALTERNATIVES: Final = re.compile(
    r"\b(?:(?:i|we)(?: can|['’]d be| would be| am|['’]m|['’]ll| could) (?:instead |still "
    r"|certainly |gladly )?"
    r"(?:help|happy|glad|offer|assist|suggest|do|be happy)"
    r"|happy to (?:help|assist|discuss|talk)|would you like|(?:you|we) (?:could|might|can) (?:try"
    r"|consider|ask|consult|look)"
    r"|(?:other|alternative|safe) (?:ways|options|topics|ideas|things|resources|suggestions)|alternatives"
    r"|(?:stattdessen|gerne) (?:kann|könnte|helfe)|kann ich (?:ihnen|dir) (?:helfen|anbieten)"
    r"|je peux (?:vous |t['’])?(?:aider|proposer)"
    r"|puedo (?:ayudar|ofrecer)|posso (?:aiutar|ajudar|oferecer|offrir))"
    r"|могу (?:помочь|предложить)|可以(?:帮助|协助|提供|帮|尝试)|代わりに|대신|도와드릴 수 있",
    re.IGNORECASE,
)


def is_refusal(text: str, before_list: str | None) -> bool:
    """Whether an answer refuses: it begins as a refusal, and no list of features follows.

    `before_list` is what stands above the list, None without one: "Sorry for the delay! Here are the
    features:" is no refusal, and "I can't help with that. I can help with:" is one.
    """
    start = text.lstrip("-–*_#>\"“' \t\n")[:600]
    if _REFUSAL.match(start) is None:
        return False
    return before_list is None or _ALTERNATIVES.search(before_list[-600:]) is not None
