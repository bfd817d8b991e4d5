"""What the words of DICOM headers mean: modalities, parts of the body, views and species, in many languages.

Patterns are matched against whole words of a text in capitals without accents (`header.plain`), or against any part of
it in scripts without spaces (`..._WITHIN`). To add a word, add it here; no other module holds any.

Sources: the DICOM standard, PS3.3 (sections C.7.3.1.1.1, C.7.6.1.1.1, C.8.1.1, C.8.11.5) and PS3.16 (annex L, CID 4009,
4010 and 4029); headers of public collections and reports by their users, among them mimic-cxr #15 (laterals without a
view position) and MONAI Deploy #505 (free text that names another part); and for other languages the usual names of the
projections, which come from no official list.
"""

from __future__ import annotations

import re

RADIOGRAPHY = re.compile(r"ComputedRadiography|DigitalXRay|SecondaryCapture|XRayRadiofluoroscopic|XRF|Hardcopy")
"""Matches the keywords of SOP classes that may hold a radiograph."""

MODALITIES = {
    "AR": "autorefraction",
    "ASMT": "an assessment",
    "BDUS": "ultrasound bone densitometry",
    "BI": "biomagnetic imaging",
    "BMD": "bone densitometry",
    "CD": "colour flow Doppler",
    "CFM": "confocal microscopy",
    "CT": "computed tomography",
    "DD": "duplex Doppler",
    "DG": "diaphanography",
    "DMS": "dermoscopy",
    "DSA": "angiography",
    "ECG": "electrocardiography",
    "EM": "electron microscopy",
    "EPS": "cardiac electrophysiology",
    "ES": "endoscopy",
    "FA": "fluorescein angiography",
    "FS": "fundoscopy",
    "GM": "general microscopy",
    "HD": "haemodynamic waveforms",
    "IO": "intra-oral radiography",
    "IVOCT": "intravascular optical coherence tomography",
    "IVUS": "intravascular ultrasound",
    "KER": "keratometry",
    "KO": "a selection of key objects",
    "LEN": "lensometry",
    "LS": "a laser surface scan",
    "MA": "magnetic resonance angiography",
    "MG": "mammography",
    "MR": "magnetic resonance",
    "MS": "magnetic resonance spectroscopy",
    "NM": "nuclear medicine",
    "OAM": "ophthalmic axial measurements",
    "OCT": "optical coherence tomography",
    "OP": "ophthalmic photography",
    "OPM": "ophthalmic mapping",
    "OPT": "ophthalmic tomography",
    "OPTBSV": "ophthalmic tomography",
    "OPTENF": "ophthalmic tomography",
    "OPV": "an ophthalmic visual field",
    "OSS": "an optical surface scan",
    "PR": "a presentation state",
    "PT": "positron emission tomography",
    "PET": "positron emission tomography",
    "PX": "panoramic radiography",
    "REG": "a registration",
    "RESP": "respiratory waveforms",
    "RTDOSE": "a radiotherapy dose",
    "RTIMAGE": "a radiotherapy image",
    "RTPLAN": "a radiotherapy plan",
    "RTRECORD": "a radiotherapy record",
    "RTSTRUCT": "radiotherapy structures",
    "SEG": "a segmentation",
    "SM": "slide microscopy",
    "SR": "a structured report",
    "ST": "single-photon emission tomography",
    "TG": "thermography",
    "US": "ultrasound",
    "VA": "visual acuity",
    "XA": "angiography",
    "XC": "photography",
}
"""Modalities that do not produce chest radiographs (PS3.3, section C.7.3.1.1.1; some retired, some never standard).

CR, DX, RG, RF, OT and the like are not listed, nor is anything unknown: missing information is no reason to reject.
"""

CHEST = (
    r"CHEST|THORAX|THORACIC CAVITY|TORAX|TORACE|TORAKS|BRUSTKORB|LUNGS?|LUNGEN?|POUMONS?|PULMON\w*|POLMON\w*|CXR|THX|"
    r"BORSTKAS|LONGEN|KLATK\w* PIERSIOW\w*|KLP|PLUC\w*|KEUHKO\w*|RINTAKEHA\w*|AKCIGER\w*|GOGUS|POITRINE|PECHO|"
    r"PEITO|PETTO|BROSTKORG|LUNGOR|HRUDNI\w*|MELLKAS\w*|ГРУДН\w*|ЛЕГК\w*|ОГК|ЛЕГЕН\w*|ΘΩΡΑΚ\w*"
)
CHEST_WITHIN = r"胸(?!腰?椎)|肺|흉부"
"""The chest; the second pattern is for scripts without spaces."""

PARTS = {
    "the spine": r"[CTL]S? ?SPINE|\w*SPINE|SPINAL|\w*WIRBEL\w*|[HBL]WS|COLUMNA|COLONNA|COLUNA|RACHIS|"
    r"VERTEBRA\w*|LEDZWIOW\w*|SZYJN\w*|"
    r"SCOLIOSIS|SACRUM|COCCYX|LUMBAR\w*|LOMBAIRE|CERVICAL\w*|WERVEL\w*|KREGOSLUP\w*|OMURGA\w*|SELKARANKA\w*|"
    r"ПОЗВОНОЧН\w*",
    "the skull or face": r"SKULL|HEAD\w*|BRAIN|CRANIUM|CRANE|CRANIO|CRANEO|SCHAEDEL|SCHADEL|KOPF|TETE|CABEZA|TESTA|"
    r"FACIAL|ORBITS?|EYES?|NOSE|NASAL\w*|SINUS\w*|JAW|MANDIBLE|MAXILLA|TEETH|TOOTH|DENTAL|TMJ|CZASZK\w*|"
    r"ZATOK\w*|SCHEDEL|KALLO|KAFA|ЧЕРЕП\w*|EARS?|MASTOIDS?|SELLA|ZYGOMA|NNH",
    "the neck": r"NECK|HALS|BOYUN|KAULA|SZYJA|COU|CUELLO|COLLO|PESCOCO|LARYNX|PHARYNX|THYROID|TRACHEA|CAROTIDS?",
    "the abdomen or pelvis": r"ABD|ABDOM\w*|BAUCH|BECKEN|PELV\w*|BASSIN|BACINO|BACIA|KUB|LIVER|KIDNEYS?|BLADDER|"
    r"BEKKEN|BUIK|MIEDNIC\w*|BRZUCH\w*|LANTIO\w*|VATSA|PELVIS|KARIN|ЖИВОТ\w*|БРЮШН\w*|ТАЗА?|PANCREAS|SPLEEN|"
    r"STOMACH|COLON|BOWEL|RECTUM|GALLBLADDER|UTERUS|PROSTATE|O?ESOPHAGUS|IVP|UROGRAM",
    "an arm or hand": r"HAND(WRIST)?S?|FINGERS?|THUMBS?|WRISTS?|FOREARMS?|ELBOWS?|(?<!C )ARMS?|HUMERUS|RADIUS|ULNA|"
    r"SHOULDERS?|SCAPULA|CLAVICLES?|AC JOINTS?|HAENDE|DAUMEN|HANDGELENK|ELLENBOGEN|UNTERARM|OBERARM|SCHULTER|POIGNET|"
    r"COUDE|SCHOUDER|POLS|ELLEBOOG|BARK|NADGARST\w*|REKA|REKI|DLON|KASI|HARTIA|LOKIEC|OLKAPAA|RANNE|OMUZ|"
    r"КИСТ[ИЬ]|ПЛЕЧ\w*|"
    r"EPAULE|MANO|MUNECA|CODO|HOMBRO|PUNHO|COTOVELO|OMBRO|POLSO|GOMITO|SPALLA|UP(PER)? ?EX[TM]\w*|UEXM?",
    "a leg or foot": r"FOOT|FEET|TOES?|ANKLES?|HEELS?|CALCANEU[SM]|LEGS?|TIBIA|FIBULA|TIB ?FIB|KNEES?|PATELLA|FEMUR|"
    r"THIGH|HIPS?|FUSS|ZEHEN?|SPRUNGGELENK|UNTERSCHENKEL|OBERSCHENKEL|KNIE\w*|HUEFTE|PIED|CHEVILLE|GENOU|HANCHE|"
    r"JAMBE|PIE|"
    r"TOBILLO|PIES|JALKA|AYAK|KOLAN\w*|STOP[AY]|BIODR\w*|ENKEL|VOET|HEUP|POLVI|NILKKA|DIZ|КОЛЕН\w*|СТОП[АЫ]|"
    r"RODILLA|CADERA|PIERNA|TORNOZELO|JOELHO|QUADRIL|PIEDE|CAVIGLIA|GINOCCHIO|ANCA|"
    r"LOW(ER)? ?(EX[TM]\w*|LEG|LIMB)|LEXM?",
    "a limb": r"EXTREMIT\w*|LIMBS?|JOINTS?",
    "the ribs or breastbone": r"RIBS?|STERNUM|RIPPEN|COTES|COSTILLAS|COSTELAS|COSTE",
    "the breast": r"BREASTS?|MAMMA\w*|MAMA|SEIN|SENOS?",
    "the whole body": r"(WHOLE|ENTIRE) ?BODY",
    "a phantom": r"PHANTOM|FANTOM\w*|TEST ?PATTERN",
}
"""Other parts of the body, in the words that headers use for them (PS3.16, annex L, and local terms).

Words that mean something harmless in another language, such as `face`, `main` and `PE`, are left out.
"""

PARTS_WITHIN = {
    "the spine": r"[颈頸腰胸脊]椎|脊柱",
    "the skull or face": r"[头頭颅顱]|副鼻腔|鼻窦",
    "the abdomen or pelvis": r"(?<!胸)腹|骨[盆盤]",
    "an arm or hand": r"手(?![术術])|[肘肩腕]",
    "a leg or foot": r"[膝踝髋髖足]|股[骨関关]",
}
"""The same in scripts without spaces."""

ANIMAL = (
    r"CANIS|CANINE|DOGS?|FELIS|FELINE|CATS?|EQUUS|EQUINE|HORSES?|BOS|BOVINE|CATTLE|COWS?|OVIS|OVINE|SHEEP|CAPRA|"
    r"CAPRINE|"
    r"GOATS?|SUS|PORCINE|PIGS?|SWINE|ORYCTOLAGUS|LEPORINE|RABBITS?|CAVIA|GUINEA PIGS?|MUS|MURINE|MOUSE|MICE|RATTUS|"
    r"RATS?|MUSTELA|FERRETS?|AVES|AVIAN|BIRDS?|REPTIL\w*|MACAC\w*|PRIMATES?|MONKEYS?|ANIMALS?|NON ?HUMAN"
)
"""Species seen in veterinary hospitals and laboratories, in Latin and English."""

FRONTAL = (
    r"AP|PA|A P|P A|FRONTAL\w*|POSTERO ?ANTERIOR\w*|ANTERO ?POSTERIOR\w*|FACE|VIEWS|2 ?V\w*|DECUB\w*|DECUBITUS|[LR]LD|"
    r"VOORACHTERWAARTS\w*|ACHTERVOORWAARTS\w*|TYLNO ?PRZEDNI\w*|PRZEDNIO ?TYLN\w*|ETUSUUNTA\w*|TAKA ETU|"
    r"ON ARKA|ARKA ON|FRENTE|FRONTE|ПРЯМ\w*|ПЕРЕДН\w*|ЗАДН\w*"
)
FRONTAL_WITHIN = r"正面|正位|正[侧側]|[后後]前|前[后後]|정면"
"""Frontal views."""

SIDES = {
    "a lateral view": r"LL|RL|LLAT|RLAT|LAT|LATL|(CHEST|THORAX)LAT|LATERAL(?!ITY|I[SZ]A)\w*|LATERAA\w*|"
    r"LATERO ?LATERAL\w*|L L|"
    r"SEITL|SEITLICH\w*|SEITENAUFNAHME|SEITENANSICHT|SEITBILD|ZIJDELINGS\w*|ZIJAANZICHT|ZIJOPNAME|ZIJ|DWARS(?!LAES)\w*|"
    r"BOK|BOKU|BOKIEM|BOCZ|BOCZN\w*|\w*BOCZN[AEY]\w*|SIVU(?!LOYD)\w*|YAN|YANDAN|"
    r"PROFIL[ES]?|PROFILO|PERFIL|PERFIS|SIDOBILD|SIDEBILDE|SIDEOPTAGELSE|BOCNI|BOCNA|BOCNY|OLDALIRANY\w*|OLDALFELVETEL|"
    r"БОК|БОКОВ\w*|СБОКУ|БІЧН\w*|ЛАТЕРАЛЬН\w*|ПРОФИЛЬ\w*|ΠΛΑΓΙΑ|ΠΡΟΦΙΛ",
    "an oblique view": r"[LR]LO|[LR][AP]O|OBL|OBLI|OBLI[QC]U\w*|SCHRAE?G\w*|SCHUIN\w*|VIISTO\w*|OBLIK|SKOSN\w*|"
    r"КОС[АОЫ]\w*",
}
SIDES_WITHIN = {
    "a lateral view": r"[侧側][位面方]|胸部? ?[侧側](?= |$)|胸部? ?(R ?L|L ?R)(?= |$)|측면",
    "an oblique view": r"斜位",
}
"""Views that are not frontal. Decubitus views are frontal: only the patient lies down."""

ASIDE = (
    r"TUBES?|DRAINS?|DRAINAGE|LINES?|CATHETERS?|KATHETER|PICC|CVC|PORT|NG|ETT|PACEMAKER|LEADS?|WIRES?|POST|AFTER|PRE|"
    r"BEFORE|OP|POSTOP|PREOP|SURGERY|THORACOTOMY|BIOPSY|PAIN|TRAUMA|FRACTURES?|FX|WALL|EFFUSION|INFILTRATES?|OPACIT\w*|"
    r"PNEUMOTHORAX|PTX|CONSOLIDATION|PLEURAL|LESIONS?|NODULES?|SEGMENTS?|BASES?|BASAL|ERGUSS|SCHMERZ\w*|"
    r"FRAKTUR\w*|SONDE|ZVK|DOLOR\w*|DERRAME|EPANCHEMENT|"
    r"DOULEUR\w*|FRATTUR\w*|VERSAMENTO|RULE|EXCLUDE|CHECK|QUERY|FOR"
)
"""Words in a description that are about something other than the view: tubes, operations, complaints and questions."""

NEUTRAL = (
    r"\d+\w{0,3}|[LRAPXEYVU]|LEFT|RIGHT|LT|RT|LI|RE|LINK\w*|RECHT\w*|GAUCHE|DROITE?|IZQ\w*|DER|DERECH\w*|ESQ\w*|"
    r"DIREIT\w*|SIN\w*|DX|SX|DEST\w*|LEW\w*|PRAW\w*|ЛЕВ\w*|ПРАВ\w*|BI\w*LATERAL|BOTH|BEIDE|BDS|VIEWS?|PROJ\w*|"
    r"XR|XRAY|RAY|"
    r"CR|DR|RG|RX|RTG|RADIO\w*|R[OE]+NTGEN\w*|STANDARD|ROUTINE|SERIES|EXAM\w*|STUDY|SUPINE|PRONE|ERECT|STANDING|"
    r"SITTING|"
    r"UPRIGHT|STEHEND|LIEGEND|SITZEND|IM|STEHEN|LIEGEN|WEIGHT|BEARING|WB|PORTABLE|MOBILE|BEDSIDE|AND|UND|ET|OF|"
    r"THE|TRUE|"
    r"AXIAL\w*|TANGENTIAL|OVERZICHT|SUNRISE|SKYLINE|MERCHANT|MORTISE|EXTERNAL|INTERNAL|ROT\w*|FLEX\w*|EXT\w*|"
    r"OPEN|MOUTH|ODONTOID|DENS|"
    r"SWIMMERS?|WATERS?|CALDWELL|TOWNES?|OUTLET|COMPLETE|LIMITED|MIN\w*|PED\w*|CHILD|ADULT|KIND|PROX\w*|DISTAL|"
    r"UPPER|LOWER|"
    r"MID|NEUTRAL|IN|EBENEN?|FRONTAL|BONES?|JOINTS?|SPOT|LONG|SHORT|DIGITAL|"
    r"THORACIC|TOTAL|FULL"
)
"""Words of a description that say how a part of the body was imaged. A description with any other word in it may be
about a tube in an arm, or arms held up, and is not used to reject."""

LATERAL_CODES = {
    *("399198007", "399173006", "399067008", "399260004", "399352003", "30730003"),  # SNOMED CT
    *("R-10232", "R-10236", "R-102CD", "R-10224", "R-10228", "G-A145"),  # the same in SNOMED RT
}
"""Lateral views: right, left, either side; medial to lateral, lateral to medial; sagittal (PS3.16, CID 4010)."""
