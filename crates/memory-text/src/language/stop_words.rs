//! Stop words by language: articles, pronouns, prepositions, conjunctions, auxiliary verbs and
//! question words, which stand in most texts and tell none from another. Words that are also
//! names, months or things are left out. The lists are part of the analyser's version.

use super::Language;

/// The stop words of a language, separated by white space.
pub(super) fn of(language: Language) -> &'static str {
    match language {
        Language::Arabic => ARABIC,
        Language::Danish => DANISH,
        Language::Dutch => DUTCH,
        Language::English => ENGLISH,
        Language::Finnish => FINNISH,
        Language::French => FRENCH,
        Language::German => GERMAN,
        Language::Greek => GREEK,
        Language::Italian => ITALIAN,
        Language::Norwegian => NORWEGIAN,
        Language::Polish => POLISH,
        Language::Portuguese => PORTUGUESE,
        Language::Russian => RUSSIAN,
        Language::Spanish => SPANISH,
        Language::Swedish => SWEDISH,
        Language::Turkish => TURKISH,
        Language::None => "",
    }
}

const ENGLISH: &str = "
    a an the this that these those
    i me my myself we our ours ourselves you your yours yourself yourselves
    he him his himself she her hers herself it its itself they them their theirs themselves
    am is are was were be been being have has had having do does did doing
    can could would should shall might must cannot
    and or but nor if because as until while than so though although
    of at by for with about into through during to from in on upon onto off
    what when where which who whom whose why how there here then
    not no too very just also such
    im ive dont didnt doesnt isnt arent wasnt wont cant couldnt wouldnt thats whats youre
    gonna wanna";

const GERMAN: &str = "
    der die das den dem des ein eine einen einem einer eines kein keine keinen keinem keiner
    ich mich mir mein meine meinen meinem meiner du dich dir dein deine deinen deinem deiner
    er ihn ihm sein seine seinen seinem seiner sie ihr ihre ihren ihrem ihrer es wir uns unser
    unsere unseren euch euer eure man sich
    bin bist ist sind seid war warst waren wart gewesen haben habe hast hat habt hatte hatten
    werde wirst wird werden werdet wurde wurden worden kann kannst können könnt konnte konnten
    muss musst müssen musste mussten soll sollte sollen will wollen wollte darf würde würden
    und oder aber denn doch sondern wenn weil dass daß ob als wie da
    in im an am auf aus bei beim mit nach von vom vor zu zum zur über unter für durch um gegen
    ohne bis seit
    was wer wen wem wessen wann wo wohin woher warum wieso welche welcher welches welchen
    welchem dieser diese dieses diesen diesem jener jene jenes
    nicht auch nur noch schon so dann hier dort sehr ja nein";

const FRENCH: &str = "
    le la les un une des du de au aux l d j m t s n c qu ce cet cette ces
    je me moi tu te toi il elle on nous vous ils elles se soi lui leur leurs y en
    mon ma mes ton ta tes son sa ses notre nos votre vos
    suis es est sommes êtes sont étais était étions étiez étaient être été
    ai as a avons avez ont avais avait avions aviez avaient avoir eu
    et ou mais donc or ni car si que quand lorsque comme parce puisque
    dans sur sous par pour avec sans chez vers entre depuis pendant à
    qui quoi dont où quel quelle quels quelles comment pourquoi combien
    ne pas plus très aussi ça cela ceci ici là";

const SPANISH: &str = "
    el la los las un una unos unas lo al del
    yo me mí tú te ti él ella ello ellos ellas usted ustedes nosotros nosotras vosotros
    nos os se sí le les mi mis tu tus su sus nuestro nuestra nuestros nuestras
    soy eres es somos sois son era eras éramos eran fui fue fueron ser sido
    estoy estás está estamos están estaba estaban estar
    he has ha hemos han había habían haber hay
    y e o u pero sino ni si que porque cuando como aunque mientras
    a de en por para con sin sobre entre hasta desde hacia
    qué quién quiénes quien cuál cuáles cuándo dónde donde cómo cuánto
    este esta esto estos estas ese esa eso esos esas aquel aquella
    no más muy también ya";

const ITALIAN: &str = "
    il lo la i gli le un uno una l d
    del dello della dei degli delle al allo alla ai agli alle dal dallo dalla dai dagli dalle
    nel nello nella nei negli nelle sul sullo sulla sui sugli sulle
    io me mi tu te ti egli lui lei noi ci voi vi essi loro si ne
    mio mia miei mie tuo tua tuoi tue suo sua suoi sue nostro nostra vostro vostra
    sono sei è siamo siete era eri erano fu furono essere stato stata stati
    ho hai ha abbiamo avete hanno avevo aveva avevano avere
    e ed o ma se che perché quando come mentre anche
    a ad di da in con su per tra fra
    chi cosa quale quali dove quanto questo questa questi queste quello quella quelli
    non più molto già";

const PORTUGUESE: &str = "
    o a os as um uma uns umas ao aos à às do da dos das no na nos nas pelo pela pelos pelas
    num numa
    eu me mim tu te ti ele ela eles elas você vocês nós vós se lhe lhes
    meu minha meus minhas teu tua teus tuas seu sua seus suas nosso nossa nossos nossas
    sou és é somos são era eram fui foi foram ser sido
    estou está estamos estão estava estavam estar tem têm tinha tinham ter há
    e ou mas nem que porque quando como embora enquanto
    de em por para com sem sobre entre até desde
    quem qual quais onde quanto este esta isto estes estas esse essa isso aquele aquela
    não mais muito também já";

const DUTCH: &str = "
    de het een
    ik mij me mijn jij je jou jouw u uw hij hem zijn zij ze haar wij we ons onze jullie
    hen hun zich
    ben bent is was waren geweest heb hebt heeft hebben had hadden word wordt worden werd
    werden kan kunt kunnen kon konden zal zult zullen zou zouden moet moeten mag
    en of maar want dus als dan dat omdat toen terwijl hoewel
    in op aan uit bij met naar van voor over onder door om tegen zonder tot sinds te
    wat wie waar wanneer waarom hoe welke welk wiens die deze dit
    niet geen ook nog al er hier daar zo zeer wel";

const SWEDISH: &str = "
    en ett den det de
    jag mig min mitt mina du dig din ditt dina han honom hans hon henne hennes vi oss vår vårt
    våra ni er ert era dem deras sig sin sitt sina man
    är var varit vara har hade haft ha blir blev blivit bli kan kunde ska skulle måste
    och eller men utan om att som när därför eftersom medan
    i på av för med till från vid under över mellan mot hos ur efter
    vad vem vilken vilket vilka vems varför hur denna detta dessa
    inte ej också bara så då nu här där mycket";

const DANISH: &str = "
    en et den det de
    jeg mig min mit mine du dig din dit dine han ham hans hun hende hendes vi os vores i jer
    jeres dem deres sig sin sit sine man
    er var været være har havde haft have bliver blev blevet blive kan kunne skal skulle vil
    ville må
    og eller men om at som når fordi mens
    på af for med til fra ved under over mellem mod hos efter
    hvad hvem hvilken hvilket hvilke hvis hvor hvorfor hvornår hvordan denne dette disse
    ikke også kun så da nu her der meget";

const NORWEGIAN: &str = "
    en et ei den det de
    jeg meg min mitt mine mi du deg din ditt dine di han ham hans hun henne hennes vi oss vår
    vårt våre dere deres dem seg sin sitt sine si man
    er var vært være har hadde hatt ha blir ble blitt bli kan kunne skal skulle vil ville må
    og eller men om at som når fordi mens
    i på av for med til fra ved under over mellom mot hos etter
    hva hvem hvilken hvilket hvilke hvor hvorfor hvordan denne dette disse
    ikke også bare så da nå her der veldig";

const FINNISH: &str = "
    minä minun minua minut minulla minulle sinä sinun sinua sinut sinulla sinulle
    hän hänen häntä hänet hänellä hänelle me meidän meitä meillä te teidän teitä teillä
    he heidän heitä heillä se sen sitä siinä siitä ne niiden niitä
    tämä tämän tätä tässä tästä nämä näiden tuo tuon nuo
    olen olet on olemme olette ovat olin olit oli olimme olivat ollut olla ole
    en et ei emme ette eivät
    ja tai vai mutta että jos kun koska kuin vaikka sekä
    mikä mitä mitkä missä mistä mihin kuka ketä kenen milloin miksi miten joka jotka jonka
    myös vain niin nyt jo vielä hyvin";

const POLISH: &str = "
    ja mnie mi mną mój moja moje ty ciebie ci tobie twój twoja twoje on jego go jemu mu nim
    ona jej ją nią ono my nas nam wy was wam oni one ich im nich się siebie sobie swój swoja
    jestem jesteś jest jesteśmy są był była było byli były być będzie będą
    i oraz a ale lub albo czy że bo ponieważ gdy kiedy jeśli jak jako niż więc
    w we z ze na do od dla po przy przez przed pod nad za o u bez między
    co kto kogo komu gdzie skąd dlaczego który która które którzy których
    ten ta to tego tej te tych tym tam tu
    nie tak też już tylko bardzo jeszcze";

const RUSSIAN: &str = "
    я меня мне мной мой моя моё мое мои ты тебя тебе твой твоя твоё твое твои
    он его него ему нему им ним она её ее неё нее ей ней оно мы нас нам нами наш наша наше наши
    вы вас вам вами ваш ваша ваше ваши они их них ими себя себе свой своя своё свое свои
    был была было были быть есть будет будут
    и а но или да что чтобы если когда как потому так же ли бы
    в во на с со к ко у о об от до из за по под над при для без через между перед
    кто кого кому чего где куда откуда почему зачем какой какая какое какие который которая
    которое которые чей
    этот эта это эти того тот та то те
    не ни нет тоже уже только ещё еще очень вот там тут здесь";

const TURKISH: &str = "
    bir bu şu o bunu şunu onu bunun onun bunlar şunlar onlar onların onları
    ben beni bana benim sen seni sana senin biz bizi bize bizim siz sizi size sizin kendi
    ve veya ya da de ki ile ama fakat ancak çünkü eğer
    için gibi kadar göre sonra önce
    ne neden niçin nasıl nerede nereye kim kimi kime hangi kaç
    mı mi mu mü değil var yok çok daha en her hem ise idi olan olarak";

const GREEK: &str = "
    ο η το οι τα του της των τον την τους τις ένας μια μία ένα ενός
    εγώ εμένα μου με μας εμείς εσύ εσένα σου σε σας εσείς αυτός αυτή αυτό αυτοί αυτές αυτά
    είμαι είσαι είναι είμαστε είστε ήμουν ήταν ήσουν έχω έχεις έχει έχουμε έχουν είχα είχε
    και κι ή αλλά όμως ότι πως να θα αν όταν γιατί επειδή ενώ που
    στο στη στην στον στα στις στους από για προς χωρίς μέχρι
    τι ποιος ποια ποιο ποιοι πού πότε πώς
    δεν μην μη όχι ναι πολύ επίσης";

const ARABIC: &str = "
    في من إلى الى على عن مع هذا هذه ذلك تلك هؤلاء
    أنا نحن أنت أنتم هو هي هم هن
    كان كانت كانوا يكون تكون ليس
    و أو ثم لكن أن إن انه أنه لأن إذا حتى كما
    الذي التي الذين ما ماذا متى أين كيف لماذا هل كم
    لا لم لن قد كل بعض بين بعد قبل عند";
