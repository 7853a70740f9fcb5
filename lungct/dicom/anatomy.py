"""What the texts of a file say about the part of the body, and whether the images are a scan at all.

The series' own description says most, because BodyPartExamined is often copied from the protocol, and ProtocolName and
StudyDescription are those of the whole examination. All are read to choose a series by; none is ever written out.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

from lungct.dicom.phrases import normalised, phrase_pattern
from lungct.dicom.slices import Words


class Region(IntEnum):
    """What the texts name, the best first."""

    CHEST = 0
    UNCLEAR = 1  # they name nothing, or contradict each other
    HEART = 2  # a small field of view, which cuts the lungs off
    ATTENUATION_CORRECTION = 3  # of a PET or SPECT: the whole body, but coarse and without breath-hold
    OTHER_PART = 4
    NO_SCAN = 5


IN_WORDS: dict[Region, str] = {
    Region.CHEST: "chest",
    Region.UNCLEAR: "unclear",
    Region.HEART: "heart",
    Region.ATTENUATION_CORRECTION: "attenuation correction",
    Region.OTHER_PART: "other",
    Region.NO_SCAN: "localizer, bolus tracking, dose report or projection",
}

# The phrases: the defined terms of BodyPartExamined (PS3.16 annex L), the manufacturers' names of localizers and bolus
# tracking, and the usual words and abbreviations of descriptions in several languages. ``*``: a word may go on.
_NO_SCAN = phrase_pattern(
    """
    SCOUT, TOPOGRAM*, TOPO, LOCALIZER*, LOCALISER*, SURVIEW, SCANOGRAM, SCANOVIEW, PILOT, DOSE REPORT, DOSE INFO*,
    DOSE RECORD, DOSE SUMMARY, DOSE SHEET, RADIATION DOSE, PATIENT DOSE, RAPPORT DOSE, RAPPORT DE DOSE,
    DOSISBERICHT, DOSISPROTOKOLL, PATIENT PROTOCOL, PATIENTENPROTOKOLL, EXAM SUMMARY, EXAM PROTOCOL, SCREEN SAVE,
    SCREEN CAPTURE, SCREENSHOT*, SMART PREP, SMARTPREP, REAL PREP, REALPREP, SURE START, SURESTART, BOLUS,
    BOLUSTRACK*, TESTBOLUS, MONITORING, PREMONITORING, PRE MONITORING, MONITOR, TRACKER, TRACKING, TIMING, MIP,
    MIPS, MINIP, MIN IP, MAX IP, MAXIP, MAXIMUM INTENSITY, MINIMUM INTENSITY, VRT, VOLUME RENDERING,
    VOLUME RENDERED
    """
)
_PROJECTION_TYPE = phrase_pattern("MIP, MINIP, MIN IP, MAXIMUM, MINIMUM, PROJECTION IMAGE, VRT, VOLREN")
_ATTENUATION_CORRECTION = phrase_pattern(
    """
    AC, ACCT, CTAC, ATTN, ATTN CORR*, ATTEN COR*, ATT CORR*, ATTENUATION CORRECT*, ATTENCORR, ATTENUATIONCORRECT*,
    SCHWACHUNGSKORREKTUR, CORRECTION D ATTENUATION
    """
)

# These name no part of the body, although a word of theirs does.
_NEUTRAL = phrase_pattern("HEAD FIRST, HEAD IN, FEET FIRST, FEET IN, POST BOLUS, AFTER BOLUS, WITH BOLUS, IV BOLUS")
_THORACIC_SPINE = phrase_pattern(
    """
    THORACIC SPINE, THORAX SPINE, SPINE THORAX, SPINE THORACIC, THORACIC VERTEBRA*, DORSAL SPINE, T SPINE, TSPINE,
    TL SPINE, THORACOLUMBAR*, THORACO LUMBAR*, BRUSTWIRBEL*, BWS, RACHIS THORACIQUE, RACHIS DORSAL,
    COLONNA DORSALE, COLUMNA DORSAL, COLUMNA TORACICA, COLUNA TORACICA, 胸椎, 흉추
    """
)
# A window, a kernel or a technique: chest, unless something names another part.
_LUNG_WINDOW = phrase_pattern(
    *(f"{lung} {what}" for lung in ("LUNG", "LUNGS", "PULM") for what in ("WINDOW*", "WIN", "WDW", "WW", "KERNEL")),
    *(f"LUNG {what}" for what in ("ALGORITHM", "ALGO", "ALG", "FILTER", "RECON", "BASE", "BASES", "SETTING*")),
    "LUNGENFENSTER, LUNGENKERN*, FENETRE PULMONAIRE, FENETRE PARENCHYMATEUSE, HRCT, HR CT, CT HR",
)
_LUNG_WORDS = ("LUNG", "LUNGS", "CHEST", "CHST", "THORAX")

_CHEST = phrase_pattern(
    """
    CHEST, CHESTS, CHST, CHESTABD*, CHESTPELVIS, NECKCHEST*, THOR, THORA*, THX, THXABD*, TORAX, TORAC*, TORAKS,
    LUNG, LUNGS, LUNGE, LUNGEN*, LUNGER, LUNGOR, LONGEN, PULM, PULMO*, PULMAO, POLMON*, POUMON*, BRONCH*,
    MEDIASTIN*, BRUST, BRUSTKORB, BRYST*, BORST, BORSTKAS, TORACE, PLUC*, PLAMAN*, AKCIGER*, KLATKA PIERSIOWA,
    KLATKI PIERSIOWEJ, HRUDNIK*, PLICE, KEUHKO*, RINTAKEHA, MELLKAS*, PHOI, NGUC, ΘΩΡΑΚ*, ΠΝΕΥΜΟΝ*, الصدر, صدر,
    חזה, RIB, RIBS, STERNUM, CTPA, CTPE, PE, CAP, CTCAP, TAP, CTTAP, NCAP, C A P, T A P, N C A P, LCS, LDCT
    SCREENING, WB, WHOLE BODY, WHOLEBODY, TOTAL BODY, TOTALBODY, ENTIRE BODY, GANZKORPER*, GANZKOERPER*, CORPS
    ENTIER, CUERPO ENTERO, CORPO INTEIRO, POLYTRAUMA*, PANSCAN, PAN SCAN, TORSO, TRUNK, RUMPF, TO THIGH, TO
    THIGHS, TO MID THIGH, TO MIDTHIGH, ГРУД*, ЛЕГК*, ОГК, 胸, 肺, 縦隔, 纵隔, 全身, 흉부, 전신
    """
)
_HEART = phrase_pattern(
    """
    HEART, CARDIAC, CARDIO*, CORONARY, CORONARIES, CORONARO*, COEUR, CUORE, CORAZON, HERZ*, CALCIUM SCOR*,
    CA SCORE, CA SCORING, CASCORE, CALCSCORE, CALC SCORE, CAC, TAVI, TAVR, 心臓, 心脏, 冠動脈, 冠脉
    """
)
_OTHER_PART = phrase_pattern(
    """
    HEAD, HEADNECK, BRAIN, SKULL, CRANI*, CRANE, CRANEO, KRANI*, CEREBR*, CEREBELL*, ENCEPHAL*, ENCEFALO,
    CABEZA, CABECA, KOPF*, SCHADEL*, SCHAEDEL*, CCT, NCCT HEAD, TETE, TESTA, HJERNE, HOOFD, HERSENEN, HUVUD,
    HJARNA, HOVED, HODE, SCHEDEL, HLAVA, KOPONYA*, PAA, BEYIN, GLOWA, GLOWY, MOZG*, ГОЛОВ*, МОЗГ*, 頭, 头, 脳, 脑,
    颅, 두부, 뇌, NECK, CERVIC*, HALS, COU, COLLO, CUELLO, PESCOCO, BOYUN, LARYNX, 頸, 颈, 경부, ORBIT*, SINUS, SINUSES,
    PNS, NNH, FACE, FACIAL, MAXILLO*, MANDIB*, DENTAL, TEMPORAL BONE*, OS TEMPORAL*, MASTOID*, INNER EAR,
    ROCHER*, FELSENBEIN*, ABDOM*, ABD, ABDO, ABDPEL*, ABDPELV*, ADDOM*, BAUCH, OBERBAUCH, BUIK, BUK, BRZUCH,
    BRZUSZ*, BRICHO, BRICHA, BATIN, VATSA*, HASI, БРЮШН*, ЖИВОТ*, ОБП, ΕΓΚΕΦΑΛ*, ΚΟΙΛΙΑ*, البطن, بطن, الرأس,
    בטן, ראש, 腹, 복부, PELV*, PEL, BECKEN*, BASSIN, BACINO, BEKKEN, МАЛОГО ТАЗА, 骨盤, 骨盆, 盆腔, 골반, LIVER, HEPAT*,
    EPAT*, FOIE, LEBER*, FEGATO, HIGADO, FIGADO, 肝, KIDNEY, KIDNEYS, RENAL, KUB, NIERE*, REIN, REINS, RENE,
    RENI, 腎, 肾, UROGRAM, UROGRAPH*, CTU, URETER*, PANCREA*, SPLEEN, ADRENAL*, BOWEL, ENTEROGRAPH*, COLON,
    COLONO*, APPENDI*, PROSTAT*, BLADDER, UTERUS, SPINE, LSPINE, CSPINE, LUMBA*, LUMBO*, SACRUM, SACRAL,
    WIRBEL*, LWS, HWS, RACHIS, COLONNA, COLUMNA, COLUNA, 腰椎, 頚椎, 颈椎, 척추, KNEE, KNEES, GENOU*, KNIE, HIP, HIPS,
    HANCHE*, HUFT*, HUEFT*, FOOT, FEET, ANKLE*, WRIST*, ELBOW*, SHOULDER*, EXTREMIT*, LEG, LEGS, FEMUR, TIBIA,
    THIGH, RUNOFF, RUN OFF, LOWER EXT, UPPER EXT, CLAVIC*, 膝, 足
    """
)


@lru_cache(maxsize=1024)
def region_of(words: Words, kernel: str | None, image_type: tuple[str, ...]) -> Region:
    """Return what the texts of an image name.

    SeriesDescription decides if it names anything; a series that names the chest and another part is a chest. Otherwise
    BodyPartExamined decides, unless it names another part where the examination names the chest; otherwise ProtocolName
    and StudyDescription do. Only SeriesDescription and ImageType tell what is no scan.

    Parameters
    ----------
    words
        The texts.
    kernel
        ConvolutionKernel: where it is a word such as LUNG, the same word in the description means it.
    image_type
        The values of ImageType, which may name a projection.

    """
    described = normalised(words.series)
    purpose = _purpose(described, "".join(map(normalised, image_type)))
    if purpose is not None:
        return purpose
    own, certain = _named_by_series(described, normalised(kernel or ""))
    if own is not None and certain:
        return own
    part = _named(normalised(words.body_part))
    examination = _named(normalised(words.protocol) + normalised(words.study))
    if part is Region.OTHER_PART:
        return Region.UNCLEAR if Region.CHEST in (own, examination) else part
    return next((region for region in (part, own, examination) if region is not None), Region.UNCLEAR)


def _purpose(described: str, image_type: str) -> Region | None:
    """Return what the images are for, if not for looking at a part of the body."""
    described = _NEUTRAL.sub(" ", described)
    if _NO_SCAN.search(described) or _PROJECTION_TYPE.search(image_type):
        return Region.NO_SCAN
    return Region.ATTENUATION_CORRECTION if _ATTENUATION_CORRECTION.search(described) else None


def _named_by_series(described: str, kernel: str) -> tuple[Region | None, bool]:
    """Return what a series' description names, and whether that is certain: a window or kernel is a hint only."""
    rest = _LUNG_WINDOW.sub(" ", described)
    for word in _LUNG_WORDS:
        if f" {word} " in kernel:
            rest = rest.replace(f" {word} ", "  ")
    named = _named(rest)
    if named is not None:
        return named, True
    return (Region.CHEST if rest != described else None), False


def _named(text: str) -> Region | None:
    rest = _THORACIC_SPINE.sub(" ", _NEUTRAL.sub(" ", text))
    if _CHEST.search(rest):
        return Region.CHEST
    if _HEART.search(rest):
        return Region.HEART
    return Region.OTHER_PART if rest != _NEUTRAL.sub(" ", text) or _OTHER_PART.search(rest) else None
