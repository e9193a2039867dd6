"""
Words that recognisers look for, per language; every word is folded (see `fold`).

A language is supported when it has an entry in `LEXICONS`. Speech recognition writes numbers
as words, as digits or half and half, with or without accents: folding makes them one.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field


def fold(word: str) -> str:
    """Return *word* without case and accents."""
    plain = unicodedata.normalize("NFKD", word.casefold())
    return "".join(char for char in plain if not unicodedata.combining(char))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lexicon:
    """
    One language. *numbers* are cardinals said as one word; *letters* are names of letters.

    *joins* stand inside one number ("treinta y uno"), *fillers* between parts of a longer one.
    *cues* name a class shortly before a number. *streets* are words of an address, *suffixes*
    endings of such words; *number_first* tells "12 rue" from "Gartenweg 12". *health* are stems.
    """

    numbers: Mapping[str, int]
    hundreds: frozenset[str] = frozenset()
    thousands: frozenset[str] = frozenset()
    repeats: Mapping[str, int] = field(default_factory=dict)
    letters: Mapping[str, str] = field(default_factory=dict)
    joins: frozenset[str] = frozenset()
    fillers: frozenset[str] = frozenset()
    cues: Mapping[str, str] = field(default_factory=dict)
    streets: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    number_first: bool = False
    health: tuple[str, ...] = ()


def _words(text: str) -> frozenset[str]:
    return frozenset(fold(word) for word in text.split())


def _stems(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _letters(names: str) -> dict[str, str]:
    """Return Spanish letter names with their letters; those that are words too are left out."""
    return dict(zip(names.split(), "fghjklmnpqrvxz", strict=True))


def _count(text: str, start: int = 0, step: int = 1) -> dict[str, int]:
    """Return the words of *text* numbered; words joined by "/" spell one number."""
    spelled = enumerate(text.split())
    return {fold(w): start + step * i for i, words in spelled for w in words.split("/")}


def _cues(**by_class: str) -> dict[str, str]:
    return {word: kind for kind, words in by_class.items() for word in _words(words)}


def _german() -> dict[str, int]:
    units = _count("ein zwei/zwo drei vier fünf sechs sieben acht neun", 1)
    tens = _count("zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig", 20, 10)
    small = _count("null eins/ein/eine zwei/zwo drei vier fünf sechs sieben acht neun zehn elf")
    small |= _count("zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn", 12)
    small |= tens | {f"{u}und{t}": v + w for u, v in units.items() for t, w in tens.items()}
    hundreds = {f"{u}hundert": 100 * v for u, v in units.items()} | {"hundert": 100}
    whole = {f"{h}{s}": v + w for h, v in hundreds.items() for s, w in small.items() if w}
    return small | hundreds | whole


def _italian() -> dict[str, int]:
    units = _count("uno due tre quattro cinque sei sette otto nove", 1)
    teens = _count("dieci undici dodici tredici quattordici quindici sedici", 10)
    teens |= _count("diciassette diciotto diciannove", 17)
    tens = _count("venti trenta quaranta cinquanta sessanta settanta ottanta novanta", 20, 10)
    small = {"zero": 0, "un": 1, "una": 1} | units | teens | tens
    for ten, value in tens.items():
        # "ventuno", "ventotto": the vowel falls before uno and otto.
        small |= {
            (ten[:-1] if unit in ("uno", "otto") else ten) + unit: value + v
            for unit, v in units.items()
        }
    hundreds = {f"{u}cento": 100 * v for u, v in units.items() if v > 1} | {"cento": 100}
    whole = {f"{h}{s}": v + w for h, v in hundreds.items() for s, w in small.items() if w}
    return small | hundreds | whole


_ENGLISH = {"o": 0, "oh": 0, "nought": 0, "nil": 0}
_ENGLISH |= _count("zero one two three four five six seven eight nine ten eleven twelve")
_ENGLISH |= _count("thirteen fourteen fifteen sixteen seventeen eighteen nineteen", 13)
_ENGLISH |= _count("twenty thirty forty/fourty fifty sixty seventy eighty ninety", 20, 10)

_SPANISH = _count("cero uno/un/una dos tres cuatro cinco seis siete ocho nueve diez once doce")
_SPANISH |= _count("trece catorce quince dieciséis diecisiete dieciocho diecinueve veinte", 13)
_SPANISH |= _count("veintiuno/veintiún veintidós veintitrés veinticuatro veinticinco", 21)
_SPANISH |= _count("veintiséis veintisiete veintiocho veintinueve", 26)
_SPANISH |= _count("treinta cuarenta cincuenta sesenta setenta ochenta noventa", 30, 10)
_SPANISH |= _count("cien/ciento doscientos trescientos cuatrocientos quinientos", 100, 100)
_SPANISH |= _count("seiscientos setecientos ochocientos novecientos", 600, 100)

_PORTUGUESE = _count("zero um/uma dois/duas três quatro cinco seis/meia sete oito nove dez onze")
_PORTUGUESE |= _count("doze treze catorze/quatorze quinze dezesseis/dezasseis", 12)
_PORTUGUESE |= _count("dezessete/dezassete dezoito dezenove/dezanove", 17)
_PORTUGUESE |= _count("vinte trinta quarenta cinquenta sessenta setenta oitenta noventa", 20, 10)
_PORTUGUESE |= _count("cem/cento duzentos trezentos quatrocentos quinhentos", 100, 100)
_PORTUGUESE |= _count("seiscentos setecentos oitocentos novecentos", 600, 100)

_FRENCH = _count("zéro un/une deux trois quatre cinq six sept huit neuf dix onze douze treize")
_FRENCH |= _count("quatorze quinze seize", 14)
_FRENCH |= _count(
    "vingt/vingts trente quarante cinquante soixante septante huitante nonante", 20, 10
)

LEXICONS: dict[str, Lexicon] = {
    "en": Lexicon(
        numbers=_ENGLISH,
        hundreds=_words("hundred"),
        thousands=_words("thousand"),
        repeats={"double": 2, "triple": 3, "treble": 3, "quadruple": 4},
        joins=_words("and"),
        fillers=_words(
            "uh um er erm hmm and then so like okay ok dash hyphen comma space dot point"
        )
        | _words("slash minus plus next area code ext extension lastly finally"),
        cues=_cues(
            card="card visa mastercard amex credit debit iban account",
            national_id="ssn social security nric fin passport insurance nino national id licence",
            phone="phone mobile cell call reach ring text whatsapp telephone landline",
        ),
        streets=_words("street st road rd avenue ave lane ln drive boulevard blvd court way square")
        | _words("place terrace close crescent row walk gardens grove hill highway parkway"),
        number_first=True,
        health=_stems(
            "diabet metform autis sclero cholester appendic asthma cancer tumour tumor chemo "
            "insulin pregnan miscarriage surger depress anxi bipolar schizo epilep migraine "
            "arthrit stroke hiv aids hepatit disabil dialys diagnos prescription medication "
            "antibiotic therap psychiat allerg infection covid dementia alzheimer parkinson "
            "tablets blood|pressure heart|attack heart|condition"
        ),
    ),
    "de": Lexicon(
        numbers=_german(),
        thousands=_words("tausend"),
        repeats={"doppel": 2, "doppelt": 2, "zweimal": 2, "dreimal": 3},
        joins=_words("und"),
        fillers=_words("äh ähm hm und dann also so strich bindestrich komma punkt leerzeichen")
        | _words("schrägstrich minus plus vorwahl"),
        cues=_cues(
            card="karte kartennummer kreditkarte kreditkartennummer ec visa mastercard iban konto "
            "kontonummer",
            national_id="steuer steuerid steuernummer steueridentifikationsnummer personalausweis "
            "personalausweisnummer ausweis ausweisnummer sozialversicherungsnummer reisepass",
            phone="telefon telefonnummer handy handynummer mobil anrufen erreichen rufen festnetz",
        ),
        streets=_words("straße platz allee gasse weg ring damm ufer markt"),
        suffixes=("strasse", "str", "weg", "platz", "allee", "gasse", "ring", "damm", "ufer"),
        health=_stems(
            "diabet metform autis sklero cholester blinddarm asthma krebs tumor chemo insulin "
            "schwanger fehlgeburt operation depress angststor burnout bipolar schizo epilep "
            "migrane arthrit rheuma schlaganfall herzinfarkt hiv aids hepatit behinder dialys "
            "diagnos rezept medikament antibiotik therap psychiat allerg infektion covid demenz "
            "alzheimer parkinson blutdruck bluthochdruck"
        ),
    ),
    "es": Lexicon(
        numbers=_SPANISH,
        thousands=_words("mil"),
        repeats={"doble": 2, "triple": 3},
        letters=_letters("efe ge hache jota ka ele eme ene pe cu erre uve equis zeta"),
        joins=_words("y"),
        fillers=_words("eh em pues y luego entonces guion coma punto espacio barra más menos"),
        cues=_cues(
            card="tarjeta visa mastercard crédito débito iban cuenta",
            national_id="dni nie nif pasaporte documento identidad curp cédula",
            phone="teléfono móvil celular llámeme llamar llame fijo whatsapp contacto",
        ),
        streets=_words(
            "calle avenida avda plaza paseo camino carrera carretera ronda travesía vía"
        ),
        health=_stems(
            "diabet metform autis esclero colester apendic asma cancer tumor quimio insulina "
            "embaraz aborto operacion cirugia depres ansiedad bipolar esquizo epilep migran "
            "artrit ictus infarto vih sida hepatit discapac dialis diagnos receta medicament "
            "medicacion antibiotic terapia psiqui alerg infeccion covid demencia alzheimer "
            "parkinson hipertension tension|arterial"
        ),
    ),
    "pt": Lexicon(
        numbers=_PORTUGUESE,
        thousands=_words("mil"),
        repeats={"duplo": 2, "dobro": 2, "triplo": 3},
        joins=_words("e"),
        fillers=_words("hã eh então e depois aí traço hífen vírgula ponto espaço barra mais menos"),
        cues=_cues(
            card="cartão visa mastercard crédito débito iban conta",
            national_id="cpf nif rg passaporte cidadão identidade documento nis",
            phone="telefone celular telemóvel ligar ligue fixo whatsapp contato contacto",
        ),
        streets=_words("rua avenida travessa praça alameda estrada largo rodovia beco"),
        health=_stems(
            "diabet metform autis esclero colester apendic asma cancer tumor quimio insulina "
            "gravid aborto cirurgia operacao depress ansiedade bipolar esquizo epilep enxaqueca "
            "artrit derrame avc infarto enfarte hiv sida aids hepatit deficien dialise "
            "hemodialise diagnos receita medicament remedio antibiotic terapia psiqui alerg "
            "infeccao covid demencia alzheimer parkinson hipertensao pressao|alta"
        ),
    ),
    "fr": Lexicon(
        numbers=_FRENCH,
        hundreds=_words("cent cents"),
        thousands=_words("mille"),
        repeats={"double": 2, "triple": 3},
        joins=_words("et"),
        fillers=_words("euh heu ben alors et puis ensuite tiret virgule point espace plus moins"),
        cues=_cues(
            card="carte visa mastercard bleue crédit iban compte",
            national_id="sécurité sécu nir passeport identité vitale",
            phone="téléphone portable mobile appelez appeler fixe joindre rappelez whatsapp",
        ),
        streets=_words("rue avenue boulevard place chemin impasse allée quai route cours square"),
        number_first=True,
        health=_stems(
            "diabet metform autis sclero cholester appendic asthm cancer tumeur chimio insuline "
            "enceinte grossesse operation chirurg depress anxi bipolaire schizo epilep migraine "
            "arthrit avc infarctus vih sida hepatit handicap dialyse diagnos ordonnance "
            "medicament antibiotique therap psychiat allerg infection covid demence alzheimer "
            "parkinson hypertension tension|arterielle"
        ),
    ),
    "it": Lexicon(
        numbers=_italian(),
        thousands=_words("mille mila"),
        repeats={"doppio": 2, "doppia": 2, "triplo": 3},
        joins=_words("e"),
        fillers=_words("ehm eh allora e poi quindi trattino virgola punto spazio barra più meno"),
        cues=_cues(
            card="carta visa mastercard credito bancomat iban conto",
            national_id="codice fiscale passaporto identità tessera",
            phone="telefono cellulare chiami chiamare chiamatemi fisso whatsapp contatto",
        ),
        streets=_words("via viale piazza corso vicolo largo strada piazzale lungomare"),
        health=_stems(
            "diabet metform autis sclero colester appendic asma cancro tumore chemio insulina "
            "incinta gravidanza aborto operazione chirurg intervento depress ansia bipolare "
            "schizo epiles emicrania artrit ictus infarto hiv aids epatit disabil dialisi diagnos "
            "ricetta farmac medicin antibiotic terapia psichiat allerg infezione covid demenza "
            "alzheimer parkinson ipertensione pressione|alta"
        ),
    ),
}
