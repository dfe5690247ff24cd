"""One name for one language: `en`, `eng` and `eng_Latn` are the same.

Language models write codes of their own: ISO 639-1 where there is one (lid176: en, ckb), ISO 639-3 with a script
(GlotLID: eng_Latn). `normalise` maps each to the shortest: the two letters of 639-1, else the three of 639-3.
"""

# ISO 639-1, then ISO 639-3 codes of the same language: the macrolanguage's, and members that models write for it.
_SAME = """
aa aar|ab abk|ae ave|af afr|ak aka twi|am amh|an arg|ar ara arb|as asm|av ava|ay aym ayr|az aze azj|ba bak|be bel|
bg bul|bi bis|bm bam|bn ben|bo bod|br bre|bs bos|ca cat|ce che|ch cha|co cos|cr cre|cs ces|cu chu|cv chv|cy cym|
da dan|de deu|dv div|dz dzo|ee ewe|el ell|en eng|eo epo|es spa|et est ekk|eu eus|fa fas pes|ff ful fuv|fi fin|fj fij|
fo fao|fr fra|fy fry|ga gle|gd gla|gl glg|gn grn gug|gu guj|gv glv|ha hau|he heb iw|hi hin|ho hmo|hr hrv|ht hat|hu hun|
hy hye|hz her|ia ina|id ind in|ie ile|ig ibo|ii iii|ik ipk|io ido|is isl|it ita|iu iku|ja jpn|jv jav|ka kat|kg kon|
ki kik|kj kua|kk kaz|kl kal|km khm|kn kan|ko kor|kr kau knc|ks kas|ku kur kmr|kv kom kpv|kw cor|ky kir|la lat|lb ltz|
lg lug|li lim|ln lin|lo lao|lt lit|lu lub|lv lav lvs|mg mlg plt|mh mah|mi mri|mk mkd|ml mal|mn mon khk|mr mar|
ms msa zsm|mt mlt|my mya|na nau|nd nde|ne nep npi|ng ndo|nl nld|nn nno|no nor nob nb|nr nbl|nv nav|ny nya|oc oci|oj oji|
om orm gaz|or ori ory|os oss|pa pan|pi pli|pl pol|ps pus pbt|pt por|qu que quy|rm roh|rn run|ro ron mo|ru rus|rw kin|
sa san|sc srd|sd snd|se sme|sg sag|sh hbs|si sin|sk slk|sl slv|sm smo|sn sna|so som|sq sqi als|sr srp|ss ssw|st sot|
su sun|sv swe|sw swa swh|ta tam|te tel|tg tgk|th tha|ti tir|tk tuk|tl tgl fil|tn tsn|to ton|tr tur|ts tso|tt tat|
ty tah|ug uig|uk ukr|ur urd|uz uzb uzn|ve ven|vi vie|vo vol|wa wln|wo wol|xh xho|yi yid ydd ji|yo yor|za zha|
zh zho cmn|zu zul
"""
_SHORT = {code: codes.split()[0] for codes in _SAME.replace("\n", "").split("|") for code in codes.split()}

# Codes of Wikipedia, and so of lid176, that ISO 639-3 gives to others or not at all.
_WIKIPEDIA = {"als": "gsw", "bh": "bih", "eml": "egl"}


def normalise(code: str) -> str:
    """The shortest code of the same language: eng_Latn, eng, EN and en-GB all give en. Script and region are left off."""
    head, _, script = code.strip().lower().replace("-", "_").partition("_")
    if not script and head in _WIKIPEDIA:  # als is Alemannic there; als_Latn is Tosk Albanian
        return _WIKIPEDIA[head]
    return _SHORT.get(head, head)


def same_language(a: str, b: str) -> bool:
    """Whether two codes name one language, in whichever style each is written."""
    return normalise(a) == normalise(b)
