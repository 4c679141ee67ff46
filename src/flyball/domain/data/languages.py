"""Which language a text is written in, told by its most frequent words.

In running text about half of all words are articles, pronouns, prepositions and the like, and these differ between
languages; so a few dozen of them suffice for telling, and neither a model nor a dictionary is needed.
"""

from collections.abc import Mapping

_FREQUENT: dict[str, str] = {
    "en": "the of and to a in is that it for was on are as with his they at be this from have or by one had not but "
    "what all were when we there can an your which their said if do will each about how up out them she he you i my",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er "
    "hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber ich wir",
    "fr": "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont avec ou son "
    "aux cette mais nous vous je elle leur tout être fait comme on ces même ont sa ses été très",
    "es": "de la que el en y a los se del las un por con no una su para es al lo como más pero sus le ya o este sí "
    "porque esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos durante",
    "it": "di e il la che in a per un è del non le una i con si da della sono al come più dei ha ma alla anche nel "
    "gli lo delle mi ho questo se o ci su degli suo dal era essere nella tutto",
    "pt": "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu "
    "sua ou ser quando muito há nos já está eu também só pelo pela até isso ela",
    "nl": "de en van het een in is dat op te zijn met voor niet die aan er om ook als dan maar bij of uit nog naar "
    "heeft hij ze wij wordt door over deze worden was ik je tot werd zich kan geen had",
    "sv": "och i att det som en på är av för med till den har de inte om ett men var jag sig från vi så kan när han nu "
    "vid där eller hade ska under också efter bara hon mycket",
    "pl": "w i na z do się że nie to jest o a po jak za od przez co dla ale jego tym czy ma już tak być był może tylko "
    "oraz przy które jako także lub bardzo",
    "ru": "и в не на я что он с как это по но они к у ты из мы за вы так же от все для да его ее бы только было мне "
    "было еще уже когда или этот если",
}
LANGUAGES = {language: frozenset(words.split()) for language, words in _FREQUENT.items()}
_LEAST_SHARE = 0.15


def guess_language(counts: Mapping[str, int]) -> str | None:
    """Return the language whose frequent words make up most of the counted ones; None where none stands out.

    Args:
        counts: How often each of the commonest words occurs, in lower case.
    """
    total = sum(counts.values())
    if not total:
        return None
    shares = {
        language: sum(count for word, count in counts.items() if word in words) / total
        for language, words in LANGUAGES.items()
    }
    best = max(sorted(shares), key=lambda language: shares[language])
    return best if shares[best] >= _LEAST_SHARE else None
